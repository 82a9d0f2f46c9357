"""A real Slurm for the tests of this folder, which are skipped where its programs are not installed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.slurm.sandbox import DEFAULT, PACKAGES, Sandbox, Variant

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.slurm)


def skip_without_slurm(variant: Variant = DEFAULT) -> None:
    if missing := Sandbox.missing(variant):
        pytest.skip(f"not installed: {', '.join(missing)}; apt-get install {PACKAGES}")


def new_sandbox(factory: pytest.TempPathFactory, variant: Variant) -> Sandbox:
    skip_without_slurm(variant)
    return Sandbox(factory.mktemp("slurm"), variant)


@pytest.fixture(scope="session")
def shared_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The cluster behind `sandbox`, as the last test has left it."""
    with new_sandbox(tmp_path_factory, DEFAULT) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    """A cluster of the default variant with an empty queue and idle nodes, shared by all tests."""
    shared_sandbox.drain()
    return shared_sandbox


@pytest.fixture(scope="module")
def sandbox_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Variant], Sandbox]]:
    """Gives a cluster of another variant with an empty queue and idle nodes; a module's tests share those alike."""
    running: dict[Variant, Sandbox] = {}
    with ExitStack() as stack:

        def of(variant: Variant) -> Sandbox:
            if variant not in running:
                running[variant] = stack.enter_context(new_sandbox(tmp_path_factory, variant))
            running[variant].drain()
            return running[variant]

        yield of
