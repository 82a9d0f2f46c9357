"""What an exception means for the launch of a stage: a cause, an exit code, and what a person is told."""

import traceback

from launch.exit_codes import BAD_INPUT, FAILED, TRY_AGAIN
from launch.running.causes import Cause
from launch.running.exit_records import Ending
from launch.store import is_full
from vssl.artifacts import StageFolder
from vssl.config import ConfigError
from vssl.run import LostRankError, StageError, SupersededError

# Of torch and its parts, which nothing here imports.
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
_PEER_GONE = (
    *("connection closed by peer", "connection reset by peer", "broken pipe", "connection refused"),
    *("remote process exited", "nccl communicator was aborted", "socket closed", "connection was likely closed"),
)
_NETWORK_ERRORS = ("DistNetworkError", "DistBackendError", "DistStoreError")


def is_known(error: BaseException) -> bool:
    """Whether the message alone tells a person what to do, without a traceback."""
    return isinstance(error, StageError | ConfigError) or is_full(error)


def ending_of(error: BaseException, folder: StageFolder) -> Ending:
    """How a rank ends whose stage raised."""
    if isinstance(error, SupersededError):
        return Ending(code=TRY_AGAIN, cause="elsewhere", error=str(error))
    reason = str(error) if isinstance(error, StageError | ConfigError) else _last_line(error)
    if is_full(error):
        reason = f"no space left under {folder.root} ({reason}); free some: the same line goes on from what was saved"
    code = BAD_INPUT if isinstance(error, ConfigError) else FAILED
    return Ending(code=code, cause=_cause(error), error=reason, lost_rank=_is_about_another_rank(error))


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _cause(error: BaseException) -> Cause:
    if isinstance(error, ConfigError):
        return "bad_input"
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        return "out_of_memory"
    # A loader process of this rank was killed: by the system, for memory, or by somebody.
    return "killed" if "killed by signal: killed" in text else "exception"


def _is_about_another_rank(error: BaseException) -> bool:
    if isinstance(error, LostRankError):
        return True
    text = str(error).lower()
    return type(error).__name__ in _NETWORK_ERRORS or (
        isinstance(error, RuntimeError) and any(words in text for words in _PEER_GONE)
    )
