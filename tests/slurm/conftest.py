"""A real Slurm for the tests of this folder, which are skipped where its programs are not installed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from launch.plan import Plan
from launch.slurm.snapshot import snapshot
from launch.store import Store
from tests.slurm.lines import Line
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


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One snapshot for all stores: it is tried elsewhere, and costs a moment each."""
    return snapshot(Store(tmp_path_factory.mktemp("code")))


@pytest.fixture
def line(sandbox: Sandbox, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Line]:
    """`line(plan)`: a line whose store is below tmp_path, on the shared cluster, or on another one."""
    monkeypatch.setattr("launch.slurm.submission.snapshot", lambda store: code)

    def make(plan: Plan, *, on: Sandbox = sandbox, root: str = "store") -> Line:
        monkeypatch.setenv("SLURM_CONF", on.environment["SLURM_CONF"])
        return Line(sandbox=on, plan=plan, root=tmp_path / root)

    return make
