"""One bad input as a row of a table, and how a row is tried: by the real entry, on a store that must not change."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from launch import pipeline
from launch.exit_codes import BAD_INPUT
from launch.planning.planner import CHECKOUT
from tests.planning import COMPOSER


@dataclass(frozen=True)
class Row:
    """A line that cannot be used, and what the answer has to say: the value, what is accepted, what to do next.

    `<name>` in any of its texts stands for a place that the test makes.
    """

    id: str
    words: str  # of the command line, without root=
    says: tuple[str, ...]
    sweep: str = ""  # text of sweeps/written.yaml, where the line names a sweep of its own
    environment: Mapping[str, str] = field(default_factory=dict)
    code: int = BAD_INPUT


def rows(*table: Row) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", table, ids=[row.id for row in table])


def snapshot(root: Path) -> dict[str, str]:
    """Every file and folder below a root, files with the digest of their content.

    Without what `prepare` found in files: that is kept on purpose, since the same line again would read them all anew.
    """
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(root.rglob("*"))
        if ".probes" not in path.parts and not (path.is_dir() and [one.name for one in path.iterdir()] == [".probes"])
    }


def checkout_with(folder: Path, sweep: str) -> Path:
    """A checkout whose only sweep is `written`."""
    for name in ("configs", "slurm_templates"):
        (folder / name).symlink_to(CHECKOUT / name)
    (folder / "sweeps").mkdir()
    (folder / "sweeps" / "written.yaml").write_text(sweep)
    return folder


Try = Callable[..., str]


def trying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Try:
    """How a row is tried: answers what was said, after checking the exit code and that the root is what it was."""

    def attempt(row: Row, root: Path, **places: object) -> str:
        def placed(text: str) -> str:
            for name, place in places.items():
                text = text.replace(f"<{name}>", str(place))
            return text

        words = [placed(word) for word in row.words.split()]
        if row.sweep:
            (tmp_path / "checkout").mkdir()
            made = checkout_with(tmp_path / "checkout", placed(row.sweep))
            monkeypatch.setattr(pipeline, "_CHECKOUT", made)
            words.insert(0, "sweep=written")
        monkeypatch.setattr(pipeline, "Composer", lambda folder: COMPOSER)
        for name, value in row.environment.items():
            monkeypatch.setenv(name, value)
        if not any(word.startswith("root=") for word in words):
            words.append(f"root={root}")
        before = snapshot(root)
        code = pipeline.main(words)
        said = capfd.readouterr().err
        print(f"| {row.id} | {code} | {said.strip()} |")
        assert code == row.code, said
        missing = [fragment for fragment in row.says if placed(fragment) not in said]
        assert not missing, said
        assert "Traceback" not in said
        assert snapshot(root) == before
        return said

    return attempt
