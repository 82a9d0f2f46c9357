import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from vssl.data.preparing.isolation import Lost, isolated
from vssl.data.preparing.probes import open_probes

CHECKOUT = Path(__file__).resolve().parents[3]


def behave(how: str) -> str:
    match how:
        case "crash":
            ctypes.string_at(0)
        case "abort":
            os.abort()
        case "hang":
            time.sleep(60)
        case "spin":
            while True:
                pass
        case "eat":
            return str(len(bytearray(2 << 30)))
        case "leave":
            os._exit(3)
        case "stop me":
            os.kill(os.getpid(), signal.SIGTERM)  # ignored: what it means is the parent's to decide
        case "bug":
            raise KeyError(how)
    return how.upper()


def run(*tasks: str, workers: int = 2) -> dict[str, object]:
    return dict(isolated(behave, tasks, workers, seconds=lambda task: 1, memory_gb=1))


def test_a_task_that_takes_its_process_down_is_lost_alone() -> None:
    found = run("crash", "a", "abort", "hang", "eat", "b", "leave", "stop me", "c", "spin")
    assert found == {
        "crash": Lost("it crashes the decoder (SIGSEGV)"),
        "abort": Lost("it crashes the decoder (SIGABRT)"),
        "hang": Lost("it takes longer than 1 s to read"),
        "spin": Lost("it takes longer than 1 s to read"),
        "eat": Lost("it needs more than 1 GB of memory"),
        "leave": Lost("it crashes the decoder (exit code 3)"),
        "stop me": "STOP ME",
        **{letter: letter.upper() for letter in "abc"},
    }


def test_a_bug_of_ours_is_no_lost_task() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)^bug:.*behave.*KeyError") as raised:
        run("bug")
    assert isinstance(raised.value.__cause__, KeyError)


def test_nothing_to_do() -> None:
    assert run() == {}


def pipes() -> set[str]:
    """By the kernel's number of each: other tests' files may be closed, or a descriptor taken again, in between."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists
            found.add(str(descriptor.readlink()))
    return {name for name in found if name.startswith("pipe:")}


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_processes_and_pipes_are_gone_afterwards_also_when_closed_early() -> None:
    opened, before = pipes(), children()
    run("a", "crash", "b")
    reading = isolated(behave, ["a", "hang", "hang", "hang"], 2, seconds=lambda task: 60, memory_gb=1)
    assert next(reading) == ("a", "A")
    assert pipes() - opened
    reading.close()
    assert not pipes() - opened
    assert children() == before


def test_processes_make_room_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vssl.data.preparing.isolation._TASKS_EACH", 3)
    found = isolated(lambda task: os.getpid(), range(10), 1, seconds=lambda task: 60, memory_gb=1)
    pids = [pid for _, pid in found]
    assert len(set(pids)) == 4
    assert os.getpid() not in pids


def test_a_hard_limit_of_the_machine_is_kept() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    ((_, limits),) = isolated(
        lambda task: resource.getrlimit(resource.RLIMIT_AS), [0], 1, seconds=lambda task: 60, memory_gb=1
    )
    assert isinstance(limits, tuple)
    assert limits[1] == hard
    assert resource.getrlimit(resource.RLIMIT_AS) == (soft, hard)


def test_nothing_outlives_a_parent_that_is_killed() -> None:
    script = (
        "import time\nfrom vssl.data.preparing.isolation import isolated\n"
        "for _ in isolated(lambda t: time.sleep(0.2), range(1000), 3, seconds=lambda t: 60, memory_gb=1):\n"
        "    print('one', flush=True)\n"
    )
    words = [sys.executable, "-c", script]
    with subprocess.Popen(words, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.communicate(timeout=30)  # returns once nobody holds the other end of the pipe


def test_journals_are_shared_and_empty_ones_leave_nothing(tmp_path: Path) -> None:
    folder = tmp_path / ".probes" / "videos"
    with open_probes(folder) as probes:
        assert probes.find("a", 1, 2) is None
    assert not folder.parent.exists()
    with open_probes(folder) as first, open_probes(folder) as second:
        first.keep("a", 1, 2, {"frames": 3})
        second.keep("b", 4, 5, {"reason": "no \u2028 good\n"})
    with open_probes(folder) as probes:
        assert probes.find("a", 1, 2) == {"frames": 3}
        assert probes.find("a", 1, 3) is None
        assert probes.find("b", 4, 5) == {"reason": "no \u2028 good\n"}
    assert len(list(folder.iterdir())) == 2
