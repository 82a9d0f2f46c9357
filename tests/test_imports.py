"""Who may import whom, read from the syntax trees, and what planning leaves unloaded.

The table is the architecture: the launcher knows stage kinds and never tensors, the library knows nothing of Slurm,
Hydra or sweeps, and inside the library imports point from what is put together to the parts.
"""

import ast
import fnmatch
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
CONFIGS = ["vssl.config", "vssl.*_config"]
PLAIN = [*CONFIGS, "vssl.artifacts", "vssl.run", "vssl.progress"]  # torch-free, known to everybody

KNOWN_TO_LAUNCH = [*CONFIGS, "vssl.artifacts", "vssl.run", "vssl.stages", "vssl.tracking"]
VALUES = ["launch.exit_codes", "launch.plan", "launch.provenance", "launch.store"]
OF_A_SITE = [
    *(*VALUES, "launch.batches", "launch.executors", "launch.executors.*"),
    *("launch.planning.*", "launch.running.*", "launch.slurm.*"),
]

# importing module (pattern) -> modules of this project that it may import (patterns); the first match counts
MAY_IMPORT: dict[str, list[str]] = {
    "vssl.config": [],
    "vssl.artifacts": ["vssl.config"],
    "vssl.run": ["vssl.artifacts"],
    "vssl.progress": [],
    "vssl.*_config": [*CONFIGS, "vssl.artifacts"],
    "vssl.stages": ["vssl.artifacts", "vssl.run"],
    "vssl.stages.*": ["vssl", "vssl.*"],
    "vssl.tracking*": ["vssl.config", "vssl.artifacts", "vssl.run", "vssl.stages", "vssl.tracking*"],
    "vssl.nn.*": ["vssl.config", "vssl.distributed", "vssl.nn.*"],
    "vssl.losses.*": ["vssl.distributed", "vssl.losses.*"],
    "vssl.backbones.*": [*CONFIGS, "vssl.nn.*", "vssl.backbones.*"],
    "vssl.methods": [],
    "vssl.methods.*": [
        *CONFIGS,
        *("vssl.backbones.*", "vssl.losses.*", "vssl.nn.*", "vssl.distributed", "vssl.randomness", "vssl.methods"),
    ],
    "vssl.evals.*": ["vssl.distributed", "vssl.evals.*"],
    "vssl.data.sampling.*": [*PLAIN, "vssl.randomness", "vssl.data.sampling", "vssl.data.sampling.*"],
    "vssl.data.views.*": [
        *(*PLAIN, "vssl.randomness", "vssl.data.crops", "vssl.data.sampling.*", "vssl.data.views", "vssl.data.views.*"),
    ],
    "vssl.data.layouts.*": [
        *(*PLAIN, "vssl.data.listing", "vssl.data.label_runs", "vssl.data.layouts", "vssl.data.layouts.*"),
    ],
    "vssl.data.preparing.*": [
        *(*PLAIN, "vssl.data.decode", "vssl.data.listing", "vssl.data.processes", "vssl.data.preparing.*"),
    ],
    "vssl.data.generated.*": [*PLAIN, "vssl.data.decode", "vssl.data.processes", "vssl.data.generated.*"],
    "vssl.data.*": [*PLAIN, "vssl.randomness", "vssl.data", "vssl.data.*"],
    "vssl.loop": [
        *PLAIN,
        *("vssl", "vssl.checkpoint", "vssl.device", "vssl.distributed", "vssl.optim", "vssl.methods"),
    ],
    "vssl.distributed": ["vssl.rendezvous"],
    "vssl.published": [*PLAIN, "vssl.backbones.published_names"],
    "vssl.published_slowfast": [*PLAIN, "vssl.published", "vssl.backbones.slowfast_names"],
    "vssl.published_v*": [  # image and video ones
        *(*PLAIN, "vssl.published", "vssl.backbones.vtransformer_names", "vssl.backbones.renaming"),
    ],
    "vssl.published_sts": [*PLAIN, "vssl.published"],
    "vssl.published_carl": [*PLAIN, "vssl.published", "vssl.backbones.renaming"],
    "vssl.weights": [
        *(*PLAIN, "vssl.published", "vssl.published_slowfast", "vssl.published_v*", "vssl.published_sts"),
        *("vssl.published_carl", "vssl.inert_pickles", "vssl.backbones.misfits"),
    ],
    "vssl.exchange": [*PLAIN, "vssl.published", "vssl.weights", "vssl.inert_pickles"],
    "vssl.published_images": [*PLAIN, "vssl.inert_pickles"],
    "vssl.optim": [*CONFIGS, "vssl.lamb"],
    "vssl.predict": ["vssl", "vssl.*"],
    "vssl.plots_*": [*PLAIN, "vssl.plots", "vssl.plots_*"],
    "vssl.*": [*PLAIN, "vssl.distributed"],
    "launch": [],
    "launch.exit_codes": [],
    "launch.plan": KNOWN_TO_LAUNCH,
    "launch.provenance": KNOWN_TO_LAUNCH,
    "launch.store": [*KNOWN_TO_LAUNCH, *VALUES],
    "launch.planning.*": [*KNOWN_TO_LAUNCH, *VALUES, "launch.spec", "launch.compose", "launch.planning*"],
    "launch.running.*": [*KNOWN_TO_LAUNCH, *VALUES, "launch.running.*"],
    "launch.slurm.*": [
        *(*KNOWN_TO_LAUNCH, *VALUES, "launch.batches", "launch.executors.*"),
        *("launch.planning.*", "launch.running.*", "launch.slurm.*"),
    ],
    "launch.trials.*": [*KNOWN_TO_LAUNCH, *OF_A_SITE, "launch.trials.*"],
    "launch.verbs.*": [
        *KNOWN_TO_LAUNCH,
        *OF_A_SITE,
        "launch.spec",
        "launch.compose",
        "launch.status",
        "launch.verbs.*",
    ],
    "launch.*": [*KNOWN_TO_LAUNCH, "launch", "launch.*"],
}
# heavy work that a launcher's function may load when it is called
MAY_IMPORT_LATE: dict[str, list[str]] = {"launch.*": ["vssl.data.prepare", "vssl.predict"]}
# packages from outside -> the modules that may import them
ONLY_IMPORTER: dict[str, list[str]] = {
    "hydra": ["launch.compose", "launch.flat"],  # the latter is Hydra's own multirun, when it is called
    "omegaconf": ["launch.compose", "launch.flat"],
    "submitit": ["launch.executors.slurm"],
    "mlflow": ["vssl.tracking", "vssl.tracking_runs"],
    "av": ["vssl.data.decode", "vssl.data.encode", "vssl.data.transcode"],
}
NEVER_IN_LIBRARY = ("launch", "hydra", "omegaconf", "submitit")
HEAVY = ("torch", "torchvision", "mlflow", "pandas", "pyarrow", "av", "cv2", "sklearn", "scipy", "matplotlib")


@dataclass(frozen=True)
class Import:
    module: str  # that imports
    target: str  # that is imported
    late: bool  # inside a function
    where: str


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of both packages."""
    found = {}
    for package in ("vssl", "launch"):
        for path in (CHECKOUT / package).rglob("*.py"):
            parts = path.relative_to(CHECKOUT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(module: str, path: Path) -> list[Import]:
    """Every import statement of a file; `from package import module` counts as an import of the module."""
    found: list[Import] = []

    def visit(node: ast.AST, late: bool) -> None:
        for child in ast.iter_child_nodes(node):
            inside = late or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            where = f"{path.relative_to(CHECKOUT)}:{getattr(child, 'lineno', 0)}"
            if isinstance(child, ast.Import):
                found.extend(Import(module, alias.name, late, where) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{where}: relative import"
                origin = child.module or ""
                for alias in child.names:
                    inner = f"{origin}.{alias.name}"
                    found.append(Import(module, inner if inner in MODULES else origin, late, where))
            visit(child, inside)

    visit(ast.parse(path.read_text()), late=False)
    return found


@pytest.fixture(scope="module")
def imports() -> list[Import]:
    return [one for module, path in MODULES.items() for one in imports_of(module, path)]


def matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def test_imports_follow_the_table(imports: list[Import]) -> None:
    broken = []
    for one in imports:
        if one.target.partition(".")[0] not in ("vssl", "launch"):
            continue
        allowed = next(patterns for module, patterns in MAY_IMPORT.items() if fnmatch.fnmatchcase(one.module, module))
        late = [name for module, names in MAY_IMPORT_LATE.items() if matches(one.module, [module]) for name in names]
        if not matches(one.target, allowed) and not (one.late and matches(one.target, late)):
            broken.append(f"{one.where}: {one.module} may not import {one.target}; it may: {', '.join(allowed)}")
    assert not broken, "\n".join(broken)


def test_outside_packages_have_one_importer(imports: list[Import]) -> None:
    broken = [
        f"{one.where}: only {', '.join(ONLY_IMPORTER[package])} may import {package}"
        for one in imports
        if (package := one.target.partition(".")[0]) in ONLY_IMPORTER and one.module not in ONLY_IMPORTER[package]
    ]
    assert not broken, "\n".join(broken)


def test_the_library_knows_no_launcher(imports: list[Import]) -> None:
    broken = [
        f"{one.where}: vssl imports {one.target}"
        for one in imports
        if one.module.startswith("vssl") and one.target.partition(".")[0] in NEVER_IN_LIBRARY
    ]
    assert not broken, "\n".join(broken)


def test_no_method_imports_another(imports: list[Import]) -> None:
    broken = [
        one.where
        for one in imports
        if one.module.startswith("vssl.methods.")
        and one.target.startswith("vssl.methods.")
        and one.target not in (one.module, f"{one.module}_config")
    ]
    assert not broken, "\n".join(broken)


def torch_free() -> list[str]:
    plain = [name for name in MODULES if matches(name, [*PLAIN, "vssl", "vssl.stages", "vssl.tracking*"])]
    launcher = [name for name in MODULES if name.startswith("launch") and name != "launch.__main__"]
    return sorted({*plain, *launcher})


def loaded_by(statement: str) -> set[str]:
    """Heavy packages that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE")}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def test_planning_loads_nothing_heavy() -> None:
    names = torch_free()
    assert len(names) > 20
    found = loaded_by("\n".join(f"import {name}" for name in names))
    culprits = [name for name in names if loaded_by(f"import {name}")] if found else []
    assert not found, f"{', '.join(sorted(found))} loaded by {', '.join(culprits)}"


def test_the_check_sees_what_is_loaded() -> None:
    assert loaded_by("import vssl.data.decode") == {"av"}


def test_no_module_has_a_name_of_the_standard_library() -> None:
    """`python launch/pipeline.py` puts the script's folder on the path: a `queue.py` there would hide Python's."""
    taken = [name for name in MODULES if name.rpartition(".")[2] in sys.stdlib_module_names]
    assert not taken
