"""The verbs: `vssl status | watch | why | logs | cancel | report | sync | doctor | gc | pin | unpin | prepare |
transcode | predict`.

Also `python -m launch` and `python launch/cli.py`. This file is the table; the work is done by the module that a verb
imports when it is called, so that each starts fast. Reads take `--json`. PIPELINE is a folder name under `pipelines/`,
the beginning of one, or nothing for the newest; STAGE is a stage, a stage in all its lanes, or a template.
"""

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

_ON_INTERRUPT = signal.getsignal(signal.SIGINT)
if __name__ == "__main__" and _ON_INTERRUPT is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while Python loads there is nothing to tell: no traceback

_CHECKOUT = Path(__file__).resolve().parent.parent
if __package__ in (None, ""):  # run as a file: the repository goes first on the path, in place of this file's folder
    _elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != _CHECKOUT / "launch"]
    sys.path[:] = [str(_CHECKOUT), *_elsewhere]

import typer

from launch.exit_codes import BAD_INPUT, DONE, FAILED, TRY_AGAIN
from launch.slurm.scheduler import SchedulerRefusedError, SchedulerSilentError
from launch.slurm.submit_lock import LockHeldError
from launch.store import default_root
from launch.verbs.targets import Target, find_target, pipelines, store_of
from vssl.config import ConfigError

if TYPE_CHECKING:
    from launch.slurm.queue_view import QueueView

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Which = Annotated[str, typer.Argument(metavar="[PIPELINE[/STAGE]]", help="default: the newest pipeline, all of it")]
Root = Annotated[Path | None, typer.Option("--root", help="the store; default: $VSSL_ROOT, else runs/ of the checkout")]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable output")]


def main() -> None:
    """The `vssl` command: what a person has to mend is one line and exit code 2; a silent controller is 75."""
    try:
        if not (_CHECKOUT / "sweeps").is_dir() or not (_CHECKOUT / "configs").is_dir():
            raise ConfigError(
                f"{_CHECKOUT} has no configs/ and sweeps/: the packages were installed without them; use a checkout, "
                "with `pip install -e CHECKOUT` or `python CHECKOUT/launch/cli.py`"
            )
        app()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except SchedulerSilentError as error:
        print(f"Slurm does not answer ({error}); nothing was changed there; try again", file=sys.stderr)
        sys.exit(TRY_AGAIN)
    except LockHeldError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(TRY_AGAIN)
    except SchedulerRefusedError as error:
        print(f"error: Slurm said no: {error}", file=sys.stderr)
        sys.exit(FAILED)
    except OSError as error:  # the store's disk, most likely
        print(f"error: {error}; look at the store's disk: is it full, or mounted read-only?", file=sys.stderr)
        sys.exit(BAD_INPUT)


@app.command()
def status(which: Which = "", root: Root = None, as_json: AsJson = False) -> None:
    """State of every stage: done, reused, running, queued, saved, failed, cancelled or waiting."""
    from launch.status import counts, print_status, status_now

    target = find_target(which, root)
    found, view = status_now(target.plan, target.store, target.folder.name)
    found = [one for one in found if one.name in target.stages]
    if as_json:
        _print_json({"pipeline": target.folder.name, "counts": counts(found), "stages": [asdict(one) for one in found]})
    else:
        print_status(target.folder.name, found)
    _exit_if_silent(view)


@app.command()
def watch(which: Which = "", root: Root = None) -> None:
    """The same as it changes, until nothing can change any more; Ctrl-C ends it and touches no job."""
    from launch.verbs.watch import watch as watch_target

    sys.exit(watch_target(find_target(which, root)))


@app.command()
def why(which: Which = "", root: Root = None, as_json: AsJson = False) -> None:
    """What each stage that is not done waits for or died of, and what to do."""
    from launch.status import status_now
    from launch.verbs.why import Reasons

    target = find_target(which, root)
    statuses, view = status_now(target.plan, target.store, target.folder.name)
    found = Reasons(target, statuses, view).explain()
    if as_json:
        _print_json({"pipeline": target.folder.name, "why": [asdict(one) for one in found]})
    else:
        print("\n".join(one.text for one in found) or f"all of {target.folder.name} is done")
    _exit_if_silent(view)


@app.command()
def report(which: Which = "", root: Root = None, as_json: AsJson = False) -> None:
    """What was trained, what it is worth beside an untrained network and chance, and the hours that it took."""
    from launch.report import print_report, report_rows
    from launch.status import status_now
    from launch.verbs.hours import pipeline_hours

    target = find_target(which, root)
    statuses, view = status_now(target.plan, target.store, target.folder.name)
    if as_json:
        rows = [asdict(row) for row in report_rows(target.plan, statuses) if row.name in target.stages]
        hours = pipeline_hours(target.plan, target.store, target.folder.name, target.stages)
        _print_json({"pipeline": target.folder.name, "stages": rows, "hours": hours.to_mapping()})
    else:
        print_report(target.plan, target.store, pipeline=target.folder, stages=statuses, names=target.stages)
    _exit_if_silent(view)


@app.command()
def logs(
    which: Which = "",
    lines: Annotated[int, typer.Option("--lines", "-n", help="lines from the end")] = 50,
    rank: Annotated[int, typer.Option("--rank", help="of a stage with several processes")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the stage ends")] = False,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """The end of a stage's newest log, and of what its batch script printed; without STAGE, of the newest one."""
    from launch.verbs.stage_logs import print_logs

    print_logs(_helping(find_target(which, root, stage_first=True)), lines, rank, follow=follow, as_json=as_json)


@app.command()
def cancel(which: Which = "", root: Root = None) -> None:
    """Take out what is queued or running, and for a stage what hangs below it; other live pipelines keep theirs."""
    from launch.verbs.cancel import cancel as cancel_target

    for line in cancel_target(find_target(which, root)).lines():
        print(line)


@app.command()
def doctor(
    cluster: Annotated[str | None, typer.Option(help="a profile of slurm_templates/cluster")] = None,
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="for the queue to start the job")] = 600.0,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """What this site allows, found out with one short job, and what to set in the profile; 1 if something is wrong."""
    from launch.trials.doctor import examine, line

    found = []
    for one in examine(
        (root or default_root()).absolute(), cluster, wait_s=wait, say=lambda text: print(text, file=sys.stderr)
    ):
        found.append(one)
        if not as_json:
            print(line(one), flush=True)
    if as_json:
        _print_json([asdict(one) for one in found])
    sys.exit(FAILED if any(one.mark == "wrong" for one in found) else DONE)


@app.command()
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="do it; without this, only say what would go")] = False,
    older_than: Annotated[float | None, typer.Option(metavar="DAYS", help="old pipelines go, too")] = None,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """What no live or pinned pipeline reaches: earlier generations, debug folders, old batches and code."""
    from launch.verbs.collecting import collect

    base = (root or default_root()).absolute()
    found = collect(base, older_than, delete=delete)
    if as_json:
        garbage = [{"path": str(one.path), "why": one.why, "size": one.size} for one in found.garbage]
        _print_json({"deleted": found.deleted, "size": found.size, "garbage": garbage})
    else:
        print("\n".join(found.lines(base)))


@app.command()
def pin(which: Which = "", root: Root = None) -> None:
    """Keep a pipeline and all that it reaches, however old it is."""
    from launch.verbs.pins import pin as pin_folder

    folder = _helping(find_target(which, root)).folder
    pin_folder(folder)
    print(f"{folder.name} is pinned")


@app.command()
def unpin(which: Which = "", root: Root = None) -> None:
    """Let a pipeline go when it is old."""
    from launch.verbs.pins import unpin as unpin_folder

    folder = _helping(find_target(which, root)).folder
    print(f"{folder.name} is no longer pinned" if unpin_folder(folder) else f"{folder.name} was not pinned")


@app.command()
def sync(
    which: Annotated[str, typer.Argument(metavar="[PIPELINE]", help="default: all pipelines of the store")] = "",
    root: Root = None,
    uri: Annotated[str | None, typer.Option(help="of the MLflow server or database")] = None,
) -> None:
    """Push journals and results to MLflow; a push that is repeated stores nothing twice."""
    from vssl import tracking

    target = _helping(find_target(which, root))
    problems = 0
    for folder in [target.folder] if which else pipelines(target.store.root):
        read = store_of(folder).read
        if not tracking.needs_sync(folder, uri, read):
            print(f"{folder.name}: nothing new")
            continue
        done = tracking.sync(folder, uri, read=read)
        problems += bool(done.problem)
        print(f"{folder.name}: {done.problem or f'{done.metrics} values to {done.uri}'}", flush=True)
    if problems:
        sys.exit(FAILED)


@app.command()
def prepare(
    data: Annotated[str, typer.Argument(help="a name in configs/data, or a folder of videos with a `/` in it")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="of the dataset's config, as in fold=2")
    ] = None,
    path: Annotated[Path | None, typer.Option(help="where the videos of a named dataset lie")] = None,
    root: Root = None,
) -> None:
    """Read every video of a dataset once: its manifest and digest make it usable in plans."""
    from launch.verbs.preparing import prepare_dataset

    print(prepare_dataset(data, settings or (), path, root))


@app.command()
def transcode(
    data: Annotated[str, typer.Argument(help="a name in configs/data, or a folder of videos with a `/` in it")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="as of pipeline.py, which does the work")
    ] = None,
    path: Annotated[Path | None, typer.Option(help="where the videos of a named dataset lie")] = None,
    root: Root = None,
) -> None:
    """Copy a dataset's videos to small ones that are quick to read: `pipeline.py sweep=transcode data=DATA`."""
    from launch.pipeline import main as run_line

    place = [] if path is None else [f"data.{data}={path.expanduser().absolute()}"]
    store = [] if root is None else [f"root={root}"]
    sys.exit(run_line(["sweep=transcode", f"data={data}", *place, *store, *(settings or ())]))


@app.command()
def predict(
    video: Annotated[Path, typer.Argument(help="a video file")],
    checkpoint: Annotated[
        Path, typer.Option(help="weights of a linear or a finetune stage (its artifacts/weights), or a published file")
    ],
    clips: Annotated[int, typer.Option(help="spread over the video")] = 1,
    crops: Annotated[int, typer.Option(help="1, or 3 along the longer side")] = 3,
    picture: Annotated[
        Path | None, typer.Option(help="where a transformer looked; default: <video>_attention.png here")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """The five likeliest classes of a video, and for TimeSformer and ViViT a picture of the class token's attention."""
    from vssl.predict import predict as predict_video

    found = predict_video(
        video, checkpoint, picture=picture or Path(f"{video.stem}_attention.png"), clips=clips, crops=crops
    )
    if as_json:
        _print_json({"classes": found.classes, "picture": None if found.picture is None else str(found.picture)})
        return
    for name, probability in found.classes:
        print(f"{probability:.4f}  {name}")
    print(f"attention: {found.picture}" if found.picture else "no picture: it is drawn of TimeSformer and ViViT alone")


def _helping(target: Target) -> Target:
    """Let requeued jobs start, in passing; verbs that look at the queue do so themselves."""
    from launch.slurm.queue_view import clear_begin_times_of

    clear_begin_times_of(target.store)
    return target


def _exit_if_silent(view: "QueueView") -> None:
    """Say it where Slurm did not answer: what was printed is what the store alone knows."""
    if view.silent:
        print(f"Slurm does not answer ({view.silent}); this is what the store knows; try again", file=sys.stderr)
        sys.exit(TRY_AGAIN)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _ON_INTERRUPT)
    main()
