"""A sweep over one stage with Hydra's own multirun, for a quick scan: no graph, and none of what makes chains safe.

    python launch/flat.py -m kind=probe seed=0,1,2                                     # here, one after the other
    python launch/flat.py -m hydra/launcher=submitit_slurm cluster=a100 kind=probe seed=0,1,2

Everything but `kind`, `cluster`, `resources` and `root` is Hydra's: groups and keys of configs/<kind>.yaml, `a,b,c` and
`range()`. Profiles and resource classes are those of pipelines, and results enter the same store under the same ids: a
pipeline reuses them. What hydra-submitit-launcher does not do, and a pipeline does:

- the command stays until the last job has ended, and its jobs are one array without a chain: kinds that read other
  stages are refused, and a dataset has to be prepared before;
- a job that fails is COMPLETED for Slurm, since its exception travels in a pickle: chain nothing to it by hand;
- a job composes its config anew when it starts, from the files as they are then, and runs the code as it is then;
- one process per stage; a stage that is stopped by its time limit saves and ends: type the line again;
- of a profile, `python`, `teardown`, `srun_args` and most of `vssl` do not count, and the accounting key that submitit
  sends cannot be left out.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).resolve().parent.parent

if __package__ in (None, ""):
    _elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != _CHECKOUT / "launch"]
    sys.path[:] = [str(_CHECKOUT), *_elsewhere]

from launch.exit_codes import BAD_INPUT, DONE
from launch.plan import Resources
from launch.planning.identity import identity, stage_id
from launch.planning.resource_classes import DEFAULT, ResourceClasses
from launch.planning.templates import files
from launch.provenance import search_path
from launch.running.elements import Element, ElementInput
from launch.slurm.profiles import read_profile
from launch.store import Store, default_root
from vssl.artifacts import read_json
from vssl.config import ConfigError, build, keys, nearest, semantic, to_mapping
from vssl.stages import STAGES

_OWN = ("kind", "cluster", "resources", "root")
_LAUNCHER = "hydra/launcher="
# Of a profile, what the launcher knows by name; all else goes to sbatch as its long option.
_KNOWN = ("partition", "qos", "comment", "constraint", "exclude", "mem_per_gpu", "mem_per_cpu", "account")


def main(arguments: Sequence[str]) -> int:
    """Run a line; returns the exit code. What Hydra finds wrong ends the process."""
    try:
        own, rest = _split(arguments)
        launcher = next((word.removeprefix(_LAUNCHER) for word in rest if word.startswith(_LAUNCHER)), "basic")
        kind = own.get("kind", "")
        if kind not in STAGES:
            raise ConfigError(f"kind is `{kind}`{nearest(kind, STAGES)}; accepted: {', '.join(STAGES)}")
        root = Path(own["root"]).expanduser().absolute() if "root" in own else default_root()
        if "cluster" in own and launcher != "submitit_slurm":
            raise ConfigError("cluster= goes with hydra/launcher=submitit_slurm")
        resources = _resources(own)
        settings: dict[str, Any] = _sizes(resources) if launcher.startswith("submitit") else {}
        if launcher == "submitit_slurm":
            settings |= _site(own.get("cluster"), resources)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    _run_hydra(kind, root, settings, [_forced(word, kind) for word in rest])
    return DONE


def run(kind: str, mapping: Mapping[str, Any], root: Path) -> dict[str, float]:
    """Run one stage of a flat sweep in this process, or find it done; its metrics.

    Raises:
        ConfigError: the config or the store cannot be used, or the stage reads what only a pipeline gives it.
        RuntimeError: the stage failed, or was stopped; the record of its attempt says why.
    """
    from launch.job import run_element
    from launch.running.ranks import Launch

    store = Store(root, visibility_s=0.0)
    element = _element(kind, mapping, store)
    code = run_element(element, store, Launch.from_environment({}))
    folder = store.stage(element.folder)
    if code != DONE:
        raise RuntimeError(f"{element.folder} ended with exit code {code}; see {folder.root}, and type the line again")
    metrics: dict[str, float] = read_json(folder.done)["metrics"]
    return metrics


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Our own keys, and Hydra's words."""
    own: dict[str, str] = {}
    rest = []
    for word in arguments:
        key, equals, value = word.partition("=")
        if equals and key in _OWN:
            own[key] = value
        else:
            rest.append(word)
    return own, rest


def _forced(word: str, kind: str) -> str:
    """A word for Hydra: configs/ hold what is special, so most keys of a kind have no line there, and are added."""
    key, equals, _ = word.partition("=")
    is_group = (_CHECKOUT / "configs" / key).is_dir()
    return f"++{word}" if equals and not is_group and key in keys(STAGES[kind].config_class()) else word


def _resources(own: Mapping[str, str]) -> Resources:
    cluster = own.get("cluster")
    overrides = read_profile(cluster).resources if cluster is not None else {}
    resources = ResourceClasses(files("resources"), overrides).get(own.get("resources", DEFAULT))
    if resources.ranks > 1:
        raise ConfigError(
            f"resources={own['resources']} asks for {resources.ranks} ranks, and a flat sweep runs one process per "
            "stage; make a sweep of one template in sweeps/, or choose another class"
        )
    return resources


def _sizes(resources: Resources) -> dict[str, Any]:
    """What a stage asks for, by the launcher's names."""
    asked = {key: value for key, value in to_mapping(resources).items() if key != "resource_class"}
    return {**asked, "mem_gb": round(resources.mem_gb), "gpus_per_node": resources.gpus_per_node or None}


def _site(cluster: str | None, resources: Resources) -> dict[str, Any]:
    """A profile, by the launcher's names."""
    profile = read_profile(cluster)
    parameters = profile.parameters_for(resources)
    given: dict[str, Any] = {key: parameters.pop(key) for key in _KNOWN if key in parameters}
    gres = str(parameters.pop("gres", "")).replace("{gpus}", str(resources.gpus_per_node))
    if gres and resources.gpus_per_node:
        given |= {"gres": gres, "gpus_per_node": None}
    others = {**parameters.pop("additional_parameters", {}), **parameters}
    # srun takes neither the cores nor the environment of a job by itself, in some releases and some settings.
    setup = ["export SLURM_EXPORT_ENV=ALL SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK", *profile.setup]
    return {
        **given,
        "setup": setup,
        "signal_delay_s": profile.policy.signal_delay_s,
        "array_parallelism": profile.array_parallelism or 256,
        "additional_parameters": {key.replace("_", "-"): value for key, value in others.items()},
    }


def _run_hydra(kind: str, root: Path, launcher: Mapping[str, Any], words: Sequence[str]) -> None:
    """Hand the line to Hydra, whose own records go to the store's `debug/`."""
    import hydra
    from hydra.core.config_store import ConfigStore
    from omegaconf import DictConfig, OmegaConf

    place = str(root / "debug" / "flat" / "${now:%Y-%m-%d_%H-%M-%S}")
    node: dict[str, Any] = {"run": {"dir": place}, "sweep": {"dir": place}}
    ConfigStore.instance().store(
        group="flat", name="line", package="hydra", node=node | ({"launcher": dict(launcher)} if launcher else {})
    )

    def stage(config: DictConfig) -> dict[str, float]:
        plain: Any = OmegaConf.to_container(config, resolve=True)
        return run(kind, plain, root)

    os.environ["PYTHONPATH"] = search_path()  # jobs import these packages, too
    sys.argv = [sys.argv[0], *words, "+flat=line"]
    hydra.main(config_path=str(_CHECKOUT / "configs"), config_name=kind, version_base="1.3")(stage)()


def _element(kind: str, mapping: Mapping[str, Any], store: Store) -> Element:
    """The stage that a config means, with the id that it has in a pipeline."""
    config = build(STAGES[kind].config_class(), mapping)
    reads = config.reads() if hasattr(config, "reads") else frozenset(STAGES[kind].roles)
    inputs: dict[str, tuple[ElementInput, ...]] = {}
    for role in sorted(reads):
        if role == "dataset":
            key = config.data.dataset.key()
            digest = store.source_digest(key)
            if digest is None:
                name = config.data.dataset.name
                raise ConfigError(f"dataset {name} is not prepared in {store.root}; first run: vssl prepare {name}")
            inputs[role] = (ElementInput(id=digest, type="dataset", source=f"dataset:{key}"),)
        elif STAGES[kind].roles[role].required:
            raise ConfigError(
                f"this {kind} reads `{role}`, which another stage makes: write a sweep, and use pipeline.py"
            )
    if hasattr(config, "refuse_inputs"):
        config.refuse_inputs(frozenset(inputs))
    ids = {role: ones[0].id for role, ones in inputs.items()}
    digest = identity(kind, STAGES[kind].version, semantic(config), ids)
    return Element(
        name=kind,
        kind=kind,
        stage_id=stage_id(digest, pending=False),
        pipeline="flat",
        config=to_mapping(config),
        inputs=inputs,
        after=(),
    )


if __name__ == "__main__":
    from launch.flat import main as of_the_package  # so that a job finds by its name what Hydra sends it

    sys.exit(of_the_package(sys.argv[1:]))
