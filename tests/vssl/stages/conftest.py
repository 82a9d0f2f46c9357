"""Stages of every kind, the parents of which are trained once for all files of tests in this folder."""

from pathlib import Path

import pytest

from tests.tiny_stages import Stage, make_stages


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stages")


@pytest.fixture(scope="session")
def stages(root: Path) -> dict[str, Stage]:
    return make_stages(root)
