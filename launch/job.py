"""What a node runs: `python -m launch.job <batch folder> [index]`, one rank of one stage.

Exit codes are those of `launch.exit_codes`. Another number of ranks than the batch was made for is bad input (2), other
code than its snapshot is refused (78). Whatever happens, the last thing a rank does is to record how it ended.
"""

import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path

from launch.exit_codes import BAD_INPUT, FAILED, REFUSED, TRY_AGAIN
from launch.running.allocation import Allocation, is_marked
from launch.running.batch_folder import BatchFolder
from launch.running.causes import Policy
from launch.running.claims import ElsewhereError
from launch.running.elements import Element, read_element
from launch.running.execution import Execution
from launch.running.exit_records import Ending, ExitRecords
from launch.running.guard import RefusedError
from launch.running.ranks import Launch
from launch.running.redaction import redact
from launch.running.stopping import StopFlag, stopping_before
from launch.slurm.begin_time import helper
from launch.slurm.restarts import BudgetSpentError, account_for_lost_launches, check_budget
from launch.store import DEFAULT_VISIBILITY_S, Store
from vssl.artifacts import read_json
from vssl.config import ConfigError, build

_ANSWER_S = 20.0  # for each question to Slurm: the stage waits for it


def main(arguments: list[str] | None = None, stop: StopFlag | None = None) -> int:
    """The command line; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    stop = stop or StopFlag()
    with stop.listening():
        try:
            if len(words) == 1 and is_marked(os.environ) and os.environ.get("SLURM_ARRAY_TASK_ID"):
                words = [*words, os.environ["SLURM_ARRAY_TASK_ID"]]
            if len(words) != 2 or not words[1].isdigit():
                raise ConfigError(f"expected a batch folder and an index, got {words!r}")
            launch = Launch.from_environment(os.environ)
        except ConfigError as error:
            return _said(Ending(code=BAD_INPUT, cause="bad_input", error=str(error))).code
        batch, index = BatchFolder(Path(words[0])), int(words[1])
        records = ExitRecords(batch, index, launch.key)
        ending = _run(batch, index, launch, stop, records)
        if batch.elements.exists():
            records.write(launch.rank, ending)
        return ending.code


def _run(batch: BatchFolder, index: int, launch: Launch, stop: StopFlag, records: ExitRecords) -> Ending:
    """One rank from its batch's record to its end, whatever happens in between."""
    try:
        # The launcher wrote the record on another machine, maybe a second ago.
        late_s = 0.0 if launch.slurm is None else DEFAULT_VISIBILITY_S
        element, store = read_element(batch.root, index, late_s)
        record = read_json(batch.elements)
        launch.check(record)
        execution = Execution(
            element=element,
            store=store,
            launch=launch,
            stop=stop,
            policy=build(Policy, (record.get("slurm") or {}).get("policy") or {}),
            batch=batch.root.name,
            records=records,
        )
        if launch.rank == 0 and launch.slurm is not None:
            return _run_on_slurm(execution, launch.slurm, batch, index)
        return execution.run()
    except ConfigError as error:
        return _said(Ending(code=BAD_INPUT, cause="bad_input", error=str(error)))
    except RefusedError as error:
        return _said(Ending(code=REFUSED, cause="refused", error=str(error)))
    except ElsewhereError as error:
        return _said(Ending(code=TRY_AGAIN, cause="elsewhere", error=str(error)))
    except BudgetSpentError as error:
        return _said(Ending(code=TRY_AGAIN, cause=error.cause, error=str(error)))
    except (Exception, SystemExit) as error:  # a mistake of the launcher itself is recorded like one of the stage
        text = "".join(traceback.format_exception(error))
        print(redact(text, os.environ), file=sys.stderr, flush=True)
        return Ending(code=FAILED, cause="exception", error=text.strip().splitlines()[-1])


def _run_on_slurm(execution: Execution, allocation: Allocation, batch: BatchFolder, index: int) -> Ending:
    """Rank 0 of a job: it speaks for those before it that could not, and knows when its time is over."""
    from launch.slurm.end_time import end_of_job
    from launch.slurm.scheduler import Scheduler

    scheduler = Scheduler(timeout_s=_ANSWER_S)
    account_for_lost_launches(batch, index, execution.launch.ranks, allocation, execution.folder, scheduler)
    check_budget(batch, index, allocation.restart, execution.policy)
    end_s = allocation.end_s or end_of_job(allocation, scheduler)
    execution = replace(
        execution,
        slurm_facts={**allocation.facts(), "end_time_s": end_s},
        help_others=helper(execution.store),
    )
    delay_s = float(execution.policy.signal_delay_s)
    with stopping_before(execution.stop, end_s, delay_s, lambda: end_of_job(allocation, scheduler)):
        return execution.run()


def run_element(element: Element, store: Store, launch: Launch, batch: str = "") -> int:
    """Run one stage as one rank, in this process.

    Returns:
        0 done; 1 failed, with the reason in the attempt's record; 75 stopped and saved.

    Raises:
        ConfigError: the config or the store cannot be used.
        RefusedError: the guard refused.
        ElsewhereError: another process owns the stage.
    """
    stop = StopFlag()
    with stop.listening():
        return Execution(element=element, store=store, launch=launch, stop=stop, batch=batch).run().code


def _said(ending: Ending) -> Ending:
    print(redact(ending.error, os.environ), file=sys.stderr, flush=True)
    return ending


if __name__ == "__main__":
    until_the_end = StopFlag()
    until_the_end.listen()  # a signal that comes while Python tidies up must not change the exit code
    sys.exit(main(stop=until_the_end))
