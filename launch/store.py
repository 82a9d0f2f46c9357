"""The store: plain files with one owner. This class spells every path outside a stage's own folder.

`stages/<kind>-<id>/ pipelines/<sweep>-<hash>/ batches/<id>/ sources/<key>/ code/<digest>/ debug/<kind>-<id>/`, and
nothing else knows those names. A stage is finished when its completion record is there, and reusable while the digests
of its parents in that record are the parents' current ones.
"""

import errno
import os
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.plan import Plan, PlannedStage, Reference, plan_mapping
from launch.provenance import CHECKOUT
from vssl.artifacts import StageFolder, canonical_json, read_json, sha256_text, write_json
from vssl.config import ConfigError

DEFAULT_VISIBILITY_S = 90.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT)  # ENOENT: no folders can be made there
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST)


@dataclass(frozen=True)
class Finished:
    """A stage that is done: its folder, in this store or in one that is only read, and its completion record."""

    folder: StageFolder
    record: Mapping[str, Any]

    def digest(self, artifact: str) -> str:
        return str(self.record["artifacts"][artifact]["digest"])


@dataclass(frozen=True)
class Store:
    """Where results lie.

    Args:
        root: the store that is written.
        read: other stores, whose finished stages may be read.
        artifact_root: kind -> folder on another disk that holds the artifacts of that kind.
        visibility_s: how long a name that another machine wrote may stay invisible here; 0 on one machine.
        strict: what is half done goes on under the code and packages that began it, or not at all.
    """

    root: Path
    read: tuple[Path, ...] = ()
    artifact_root: Mapping[str, Path] = field(default_factory=dict)
    visibility_s: float = DEFAULT_VISIBILITY_S
    strict: bool = False

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Store":
        return cls(
            Path(mapping["root"]),
            tuple(Path(path) for path in mapping["read"]),
            {kind: Path(path) for kind, path in mapping["artifact_root"].items()},
            float(mapping["visibility_s"]),
            bool(mapping.get("strict", False)),  # older records do not say
        )

    def to_mapping(self) -> dict[str, Any]:
        """As plain values and absolute paths, for a job that starts in another folder."""
        return {
            "root": str(self.root.absolute()),
            "read": [str(path.absolute()) for path in self.read],
            "artifact_root": {kind: str(path.absolute()) for kind, path in self.artifact_root.items()},
            "visibility_s": self.visibility_s,
            "strict": self.strict,
        }

    def stage(self, name: str) -> StageFolder:
        """A stage's folder in the store that is written; `name` is `<kind>-<id>`."""
        return StageFolder(self.root / "stages" / name)

    def debug(self, name: str) -> StageFolder:
        return StageFolder(self.root / "debug" / name)

    @property
    def sources(self) -> Path:
        return self.root / "sources"

    @property
    def pipelines(self) -> Path:
        return self.root / "pipelines"

    @property
    def batches(self) -> Path:
        return self.root / "batches"

    @property
    def code(self) -> Path:
        return self.root / "code"

    @property
    def submitting(self) -> Path:
        """Locks of the launchers that submit to Slurm."""
        return self.root / "submitting"

    @property
    def requeued(self) -> Path:
        """One marker per job that was requeued and whose begin time nobody has cleared yet."""
        return self.root / "requeued"

    @property
    def trials(self) -> Path:
        """Small stores of `vssl doctor`, one for each of its trial jobs."""
        return self.root / "trials"

    @property
    def removing(self) -> Path:
        """What is on its way out: renamed first, then deleted."""
        return self.root / ".removing"

    def source(self, key: str) -> Path:
        return self.sources / key

    def source_record(self, key: str) -> Mapping[str, Any] | None:
        """The record of a prepared dataset; None where it is not prepared. One small file is read."""
        record: Mapping[str, Any] | None = read_json(self.source(key) / "source.json")
        return record

    def source_digest(self, key: str) -> str | None:
        record = self.source_record(key)
        return None if record is None else str(record["digest"])

    def pipeline(self, plan: Plan) -> Path:
        """Folder of a planned pipeline: equal plans have the same one."""
        return self.pipelines / f"{plan.sweep}-{sha256_text(canonical_json(plan_mapping(plan)))[:12]}"

    def save_plan(self, plan: Plan, chosen: Collection[str] | None = None) -> Path:
        """Write the plan where the verbs find it, beside this store's settings.

        The plan's time stamp becomes the time of its newest submission.

        Args:
            plan: the whole plan.
            chosen: names of the stages that the line selects; None: all.

        Raises:
            ConfigError: the store cannot be written.
        """
        folder = self.pipeline(plan)
        with self.writing():
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / "plan.json").exists():
                os.utime(folder / "plan.json")
            else:
                write_json(folder / "plan.json", plan_mapping(plan))
            if read_json(folder / "store.json") != self.to_mapping():
                write_json(folder / "store.json", self.to_mapping())
            left_out = [] if chosen is None else sorted(plan.by_name.keys() - set(chosen))
            if left_out != self.left_out(folder.name):
                write_json(folder / "left_out.json", left_out)
        return folder

    def left_out(self, pipeline: str) -> list[str]:
        """Names of the stages that the newest line of a pipeline did not select."""
        names: list[str] = read_json(self.pipelines / pipeline / "left_out.json") or []
        return names

    def finished(self, name: str) -> Iterator[Finished]:
        """Completion records of a stage: this store's, then those of the stores that are read."""
        for root in (self.root, *self.read):
            folder = StageFolder(root / "stages" / name)
            record = read_json(folder.done)
            if record is not None:
                yield Finished(folder, record)

    def is_current(self, finished: Finished) -> bool:
        """Whether a finished stage was made from what its parents' records, here or in a store that is read, say now.

        `reusable` asks the same of a stage whose plan is at hand; a job knows its parents by their records alone.
        """
        for ones in finished.record["inputs"].values():
            for one in ones:
                _, by_stage, artifact = one["id"].partition("/")  # from outside: a digest alone
                if by_stage and not any(
                    parent.digest(artifact) == one["digest"] and self.is_current(parent)
                    for parent in self.finished(one["origin"])
                ):
                    return False
        return True

    def reusable(self, stage: PlannedStage, parents: Mapping[str, Finished]) -> Finished | None:
        """The finished stage whose recorded inputs are the parents' current artifacts, if there is one.

        Args:
            stage: what is wanted.
            parents: name -> what stands for each parent now; a parent that is missing makes nothing reusable.
        """
        if any(name not in parents for name in stage.parents if name not in stage.dispensable):
            return None
        wanted = input_digests(stage, parents)
        return next((found for found in self.finished(stage.folder) if recorded_digests(found.record) == wanted), None)

    def reusable_stages(self, plan: Plan) -> dict[str, Finished]:
        """Every stage of a plan that need not run again, by name."""
        found: dict[str, Finished] = {}
        for stage in plan:
            finished = self.reusable(stage, found)
            if finished is not None:
                found[stage.name] = finished
        return found

    def set_aside(self, name: str, generation: int) -> bool:
        """Rename a stage's folder to `<name>~<generation>` so that the stage starts anew.

        `generation` is read before deciding: if another process decided the same meanwhile, its rename wins and this
        one returns False.
        """
        folder = self.stage(name).root
        with self.writing():
            try:
                folder.rename(folder.with_name(f"{name}~{generation}"))
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
                    return False
                raise
        return True

    def prepare_folder(self, name: str, kind: str) -> StageFolder:
        """Make a stage's folder; its artifacts lie elsewhere where `artifact_root` says so for the kind."""
        folder = self.stage(name)
        folder.attempts.mkdir(parents=True, exist_ok=True)
        folder.logs.mkdir(exist_ok=True)
        folder.checkpoints.mkdir(exist_ok=True)
        if kind in self.artifact_root and not folder.artifacts.exists():
            # A name of its own: a stage that is redone must not write into what its earlier generation left.
            target = self.artifact_root[kind].absolute() / f"{name}.{uuid.uuid4().hex[:8]}"
            target.mkdir(parents=True)
            folder.artifacts.unlink(missing_ok=True)  # a link into a folder that somebody removed
            folder.artifacts.symlink_to(target, target_is_directory=True)
        folder.artifacts.mkdir(exist_ok=True)
        return folder

    def when_visible(self, path: Path) -> Any:
        """The value in a JSON file that another machine may just have written; None if it stays missing."""
        return read_json(path) if self.appears(path) else None

    def appears(self, *paths: Path) -> bool:
        """Whether files are there, or come into sight while another machine's names may still be invisible."""
        deadline = time.monotonic() + self.visibility_s
        while (missing := [path for path in paths if not path.is_file()]) and time.monotonic() < deadline:
            for folder in {path.parent for path in missing if path.parent.is_dir()}:
                list(folder.iterdir())  # asks the file server anew instead of a cached "no such file"
            time.sleep(min(1.0, self.visibility_s / 20))
        return not missing

    def check(self) -> None:
        """Refuse a root that can be no folder, before anything asks what is in it.

        Raises:
            ConfigError: a root, or a part of its path, is a file; or a store to be read is not there.
        """
        places = {"root=FOLDER": self.root}
        places |= {f"store.artifact_root.{kind}=FOLDER": root for kind, root in self.artifact_root.items()}
        for key, place in places.items():
            existing = next(path for path in (place, *place.parents) if path.exists())
            if not existing.is_dir():
                raise ConfigError(f"{existing} is a file, not a folder; choose another one with {key}")
        for folder in self.read:
            if not folder.is_dir():
                raise ConfigError(f"store.read: no folder {folder}; name folders that hold `stages/`")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn a disk that cannot be written into an error that says what to do."""
        try:
            yield
        except OSError as error:
            place = error.filename or self.root
            if is_full(error):
                raise ConfigError(
                    f"no space left under {place}: free some, or choose another store with root=FOLDER or VSSL_ROOT"
                ) from error
            if error.errno in _FORBIDDEN:
                reuse = f", and read this one with store.read=[{self.root}]" if self.root.is_dir() else ""
                raise ConfigError(
                    f"cannot write {place}: {error.strerror}; choose another store with root=FOLDER or VSSL_ROOT{reuse}"
                ) from error
            if error.errno in _NO_FOLDER:
                raise ConfigError(f"{place} is a file, not a folder; choose another store with root=FOLDER") from error
            raise


def generation(folder: StageFolder) -> int:
    """1 for a stage that was never redone, else one more than the highest that was set aside: some may be removed."""
    aside = (path.name.rpartition("~")[2] for path in folder.root.parent.glob(f"{folder.root.name}~*"))
    return 1 + max((int(number) for number in aside if number.isdigit()), default=0)


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk, or a used-up quota, was the reason; libraries hide it behind errors of their own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def default_root() -> Path:
    """Where results lie unless a person says otherwise: $VSSL_ROOT, else runs/ of this checkout."""
    return Path(os.environ.get("VSSL_ROOT") or CHECKOUT / "runs").absolute()


def input_digests(stage: PlannedStage, parents: Mapping[str, Finished]) -> dict[str, list[list[str]]]:
    """role -> [id, digest now] of each input of a stage."""

    def now(reference: Reference) -> str:
        if reference.stage is not None and reference.artifact is not None:
            return parents[reference.stage].digest(reference.artifact)
        return reference.id  # from outside: the id is the digest of the content

    return {role: [[one.id, now(one)] for one in references] for role, references in stage.made_from.items()}


def recorded_digests(record: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """The same of a completion record or of a stage's inputs.json."""
    inputs: Mapping[str, Sequence[Mapping[str, str]]] = record["inputs"]
    return {role: [[one["id"], one["digest"]] for one in ones] for role, ones in inputs.items()}
