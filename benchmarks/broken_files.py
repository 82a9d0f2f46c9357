"""A folder of 10,000 small videos, 3 % of them damaged in every way: what `prepare` makes of it, how fast, how clean.

python benchmarks/broken_files.py [files]

Prints the time, every kind of damage with what became of it, and the memory of readers and the open files of all
processes from the first tenth of the run to its last: readers are not renewed here, so that a leak would show.
"""

import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from tests.broken import SUFFIXES, good_files, unique, ways
from vssl.artifacts import read_json
from vssl.data.dataset_config import DatasetConfig
from vssl.data.prepare import prepare
from vssl.data.preparing import isolation

SHARE = 0.03


class Watch(threading.Thread):
    """Notes the memory of readers (MB, without what processes share), and open files, twice a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, int]] = []
        self._stop_now = threading.Event()

    def run(self) -> None:
        while not self._stop_now.wait(0.5):
            try:
                readers = [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
                memory = max((private_mb(pid) for pid in readers), default=0.0)
                files = max(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (os.getpid(), *readers))
            except OSError:  # a process ended between two looks
                continue
            if readers:
                self.seen.append((memory, files))

    def stop(self) -> None:
        self._stop_now.set()
        self.join()


def private_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def main(count: int) -> None:
    isolation._TASKS_EACH = 10**9
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "videos"
        (root / "class").mkdir(parents=True)
        files = good_files(Path(temporary))
        kinds = ways(files)
        damaged = set(rng.sample(range(count), round(SHARE * count)))
        how: dict[str, str] = {}
        for number in range(count):
            suffix = SUFFIXES[number % len(SUFFIXES)]
            name = list(kinds)[len(how) % len(kinds)] if number in damaged else ""
            data = kinds[name].damage(files[suffix], rng) if name else unique(files[suffix], suffix, number)
            path = f"class/{number:06}{suffix}"
            (root / path).write_bytes(data)
            if name:
                how[path] = name
        config = DatasetConfig(name="broken", path=str(root), test_share=0)
        watch = Watch()
        watch.start()
        began = time.monotonic()
        record = prepare(config, Path(temporary) / "sources", lambda text: print(f"    {text}", flush=True))
        took = time.monotonic() - began
        watch.stop()
        report = read_json(Path(temporary) / "sources" / config.key() / "report.json")
    excluded = {one["path"]: one["reason"] for one in record["excluded"]}
    became: dict[str, Counter[str]] = defaultdict(Counter)
    for path, name in how.items():
        became[name]["excluded" if path in excluded else "kept"] += 1
    print(f"{count} files, {len(how)} damaged: {took:.1f} s, {count / took:.0f} files/s on {os.cpu_count()} cores")
    for name, counts in became.items():
        print(f"  {name}: " + ", ".join(f"{number} {what}" for what, number in sorted(counts.items())))
    print(f"reasons: {report['reasons']}")
    hopeless = {path for path, name in how.items() if kinds[name].surely}
    print(f"good files lost: {len(set(excluded) - set(how))}, hopeless files kept: {len(hopeless - set(excluded))}")
    print(f"accounted for: {sum(record['splits'].values())} + {len(excluded)} = {count}")
    tenth = max(1, len(watch.seen) // 10)
    for what, index in (("memory of the largest reader, MB", 0), ("open files of a process", 1)):
        first, last = (max(seen[index] for seen in part) for part in (watch.seen[:tenth], watch.seen[-tenth:]))
        print(f"{what}: {first:.0f} in the first tenth, {last:.0f} in the last")
    assert sum(record["splits"].values()) + len(excluded) == count
    assert set(excluded) <= set(how)
    assert hopeless <= set(excluded)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
