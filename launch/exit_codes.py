"""The one table of exit codes, of the launcher and of every job."""

DONE = 0
FAILED = 1
BAD_INPUT = 2  # a config, sweep, path or environment that a person has to mend
TRY_AGAIN = 75  # stopped with everything saved, or the work is running elsewhere: the same line goes on
REFUSED = 78  # the guard: an input is missing, or is not what its maker recorded
