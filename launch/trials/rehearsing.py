"""Plans a rehearsal of a pipeline's stages, and watches over the process that plays it (`launch.trials.rehearsal`)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from launch.exit_codes import BAD_INPUT
from launch.plan import Plan, Reference
from launch.provenance import search_path
from launch.running.children import FOREIGN, last_line
from launch.running.machine import gpus_of
from launch.running.pace import duration
from launch.store import Finished, Store
from launch.trials.alike import BATCH, STEPS, batch_of, frames_of, groups, shortened, splits_of
from launch.trials.checks import Check
from vssl.artifacts import read_json, write_json
from vssl.config import ConfigError

STAGE_WAIT_S = 900.0  # a stage that takes longer on this machine is left to the cluster
_LOOK_EVERY_S = 0.1
_MARGIN_FRAMES = 8  # beyond a clip, so that its first frame can be drawn, and flow has one less


class Rehearsal:
    """Stages of a plan, tried in a folder that is thrown away afterwards.

    Args:
        plan: the whole plan; its datasets are prepared.
        names: the stages to try; each of their parents is among them or finished.
        finished: what is really there, and is read where a stage needs it.
        store: whose sources are read.
        folder: where to play; made here.
    """

    def __init__(
        self, plan: Plan, names: Collection[str], finished: Mapping[str, Finished], store: Store, folder: Path
    ) -> None:
        self.groups = groups(plan, names)
        self._plan = plan
        self._finished = finished
        self._store = store
        self._folder = folder
        self._number = {stage.name: number for number, group in enumerate(self.groups) for stage in group.stages}
        has_gpu = bool(gpus_of(os.environ))
        self._shortened = [shortened(group.first, has_gpu) for group in self.groups]

    def play(self, say: Callable[[str], None]) -> list[Check]:
        """Try every stage; what became of each."""
        self._folder.mkdir(parents=True)
        write_json(self._folder / "excerpts.json", self._excerpts())
        write_json(self._folder / "tasks.json", [self._task(number) for number in range(len(self.groups))])
        said = 0
        while (current := self._without_report()) is not None:
            since = time.monotonic()
            with self._process() as process:
                while process.poll() is None:
                    now = self._without_report()
                    if now != current:
                        since, current = time.monotonic(), now
                    said = self._say_reported(said, say)
                    if current is not None and time.monotonic() - since > STAGE_WAIT_S:
                        self._write_report(current, {"slow": True})
                        break
                    time.sleep(_LOOK_EVERY_S)
            if process.returncode == BAD_INPUT:
                raise ConfigError(f"no excerpt of the data could be made: {last_line(self._folder / 'log')}")
            stuck = self._without_report()
            if process.returncode != 0 and stuck is not None and stuck == current:
                self._write_report(stuck, {"error": _killed(process.returncode)})
        self._say_reported(said, say)
        return [self.check(number) for number in range(len(self.groups))]

    def _say_reported(self, said: int, say: Callable[[str], None]) -> int:
        """Say what became of the stages from a number on that have been tried; the number that comes next."""
        left = self._without_report()
        for number in range(said, len(self.groups) if left is None else left):
            check = self.check(number)
            say(f"[{number + 1}/{len(self.groups)}] {check.what}: {check.result}")
        return len(self.groups) if left is None else left

    def report(self, number: int) -> Mapping[str, Any]:
        report: Mapping[str, Any] | None = read_json(self._folder / str(number) / "report.json")
        return report or {}

    def share(self, number: int) -> tuple[int, int, int, int]:
        """(videos, frames) that a stage has seen, and (videos, frames) of its whole dataset; ones without a dataset."""
        key = self._plan.dataset_of(self.groups[number].first)
        if key is None:
            return 1, 1, 1, 1
        record = read_json(self._folder / "sources" / key / "source.json")
        return sum(record["splits"].values()), record["frames"], record["of_videos"], record["of_frames"]

    def check(self, number: int) -> Check:
        """What became of one group."""
        group, report = self.groups[number], self.report(number)
        more = len(group.stages) - 1
        what = group.first.name + (f" and {more} like it" if more else "")
        log = self._folder / str(number) / "log"
        if report.get("slow"):
            note = f"takes more than {duration(STAGE_WAIT_S)} on this machine even when short"
            return Check(what=what, result="not tried", note=note)
        if "waits_for" in report:
            return Check(what=what, result="not tried", note=f"reads {report['waits_for']}, which was not made")
        if "error" in report:
            return Check(what=what, result="failed", note=f"{report['error']}; log {log}")
        short = self._shortened[number][1]
        key = self._plan.dataset_of(group.first)
        if key is not None:
            videos, _, of_videos, _ = self.share(number)
            short = [f"{videos} of {of_videos:,} videos", *short]
        return Check(what=what, result="ok", note="; ".join([_done(report), *short]))

    def _task(self, number: int) -> dict[str, Any]:
        stage, config = self.groups[number].first, self._shortened[number][0]
        inputs = {role: [self._input(one) for one in ones] for role, ones in stage.inputs.items()}
        return {"name": stage.name, "kind": stage.kind, "config": config, "inputs": inputs}

    def _input(self, one: Reference) -> dict[str, Any]:
        if one.stage is not None and one.artifact is not None:
            if one.stage in self._number:
                return {
                    "type": one.type,
                    "task": self._number[one.stage],
                    "artifact": one.artifact,
                    "stage": one.stage,
                }
            found = self._finished[one.stage]
            path, digest = found.folder.artifacts / one.artifact, found.digest(one.artifact)
            return {"type": one.type, "path": str(path), "digest": digest, "origin": found.folder.root.name}
        sort, _, place = (one.source or "").partition(":")
        if sort == "dataset":
            return {"type": one.type, "dataset": place}
        return {"type": one.type, "path": place, "digest": one.id, "origin": one.source}

    def _excerpts(self) -> dict[str, Any]:
        """Of each dataset that is read: how many videos of which split, and how long they have to be."""
        found: dict[str, Any] = {}
        for group, (config, _) in zip(self.groups, self._shortened):
            key = self._plan.dataset_of(group.first)
            if key is None:
                continue
            entry = found.setdefault(key, {"source": str(self._store.source(key)), "videos": {}, "min_frames": 0})
            entry["min_frames"] = max(entry["min_frames"], frames_of(config) + _MARGIN_FRAMES)
            for role, split in splits_of(config).items():
                wanted = STEPS * batch_of(config) if role == "train_split" else BATCH
                entry["videos"][split] = max(entry["videos"].get(split, 0), wanted)
        for key, entry in found.items():
            if not entry["videos"]:
                record = self._store.source_record(key) or {"splits": {}}
                entry["videos"] = dict.fromkeys(record["splits"], BATCH)
        return found

    def _without_report(self) -> int | None:
        """The stage that is being tried, or comes next."""
        numbers = range(len(self.groups))
        return next((n for n in numbers if not (self._folder / str(n) / "report.json").exists()), None)

    def _write_report(self, number: int, report: Mapping[str, Any]) -> None:
        (self._folder / str(number)).mkdir(exist_ok=True)
        write_json(self._folder / str(number) / "report.json", report)

    @contextmanager
    def _process(self) -> Iterator["subprocess.Popen[bytes]"]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        with (
            open(self._folder / "log", "ab") as log,
            subprocess.Popen(
                [sys.executable, "-P", "-m", "launch.trials.rehearsal", str(self._folder)],
                env={**inherited, "PYTHONPATH": search_path(), "OMP_WAIT_POLICY": "PASSIVE"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this process, which ends that one and all that it started
            ) as process,
        ):
            try:
                yield process
            finally:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)


def _done(report: Mapping[str, Any]) -> str:
    steps = report["steps"]
    took = f"{steps} step{'s' * (steps != 1)} in " * bool(steps) + duration(report["seconds"])
    if report["checkpoint_bytes"]:
        return f"{took}, stopped and went on from its checkpoint"
    return f"{took}, stopped and started again" if report["stopped"] else took


def _killed(code: int) -> str:
    how = f"was killed by {signal.Signals(-code).name} (memory?)" if code < 0 else f"ended with code {code}"
    return f"its process {how}"
