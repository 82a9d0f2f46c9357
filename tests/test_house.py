"""House rules that a reviewer would otherwise repeat: file names, lengths, and words that say work is unfinished."""

import re
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path for folder in ("vssl", "launch", "benchmarks") for path in (CHECKOUT / folder).rglob("*.py"))
TEXTS = sorted(
    path
    for folder in ("vssl", "launch", "benchmarks", "configs", "sweeps", "slurm_templates", "tests", ".ci")
    for path in (CHECKOUT / folder).rglob("*")
    if path.suffix in (".py", ".yaml", ".sh", ".md", ".txt") and path != Path(__file__).resolve()
)
SAY_NOTHING = {"utils", "util", "base", "helper", "helpers", "misc", "common", "manager"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError")
PERSONAL_PATH = re.compile(r"(?<![\w.])/(home|root|Users)/\w+")
REGISTRY = re.compile(
    r"(--index-url|--extra-index-url|--find-links|https?://\S*(pypi|pythonhosted|download\.pytorch)\S*)"
)


def found(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(CHECKOUT)}:{number}: {line.strip()}"
        for path in TEXTS
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]


def test_file_names_say_what_is_inside() -> None:
    assert not [path for path in SOURCES if path.stem.strip("_") in SAY_NOTHING]


def test_source_files_hold_one_idea() -> None:
    lengths = {str(path.relative_to(CHECKOUT)): len(path.read_text().splitlines()) for path in SOURCES}
    assert not {name: length for name, length in lengths.items() if length > 350}


def test_nothing_says_that_it_is_unfinished() -> None:
    assert not found(UNFINISHED)


def test_no_path_of_somebodys_machine() -> None:
    assert not found(PERSONAL_PATH)


def test_packages_come_from_wherever_the_user_gets_them() -> None:
    assert not found(REGISTRY)
    pins = (CHECKOUT / ".ci" / "constraints.txt").read_text().splitlines()
    exact = re.compile(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*")  # no local tags such as +cpu
    assert not [pin for pin in pins if not pin.startswith("#") and not exact.fullmatch(pin)]


def test_every_needed_package_is_pinned() -> None:
    pyproject = (CHECKOUT / "pyproject.toml").read_text()
    needed = {name.lower() for name in re.findall(r'"([A-Za-z][\w-]*)>=', pyproject)} - {"setuptools"}
    pins = (CHECKOUT / ".ci" / "constraints.txt").read_text()
    pinned = {line.partition("==")[0].lower() for line in pins.splitlines()}
    assert len(needed) > 15
    assert not needed - pinned


def test_scripts_can_be_run() -> None:
    for path in (CHECKOUT / ".ci" / name for name in ("run", "setup_venv", "ui")):
        assert path.stat().st_mode & 0o111, path.name
        assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0, path.name
