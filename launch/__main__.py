"""`python -m launch` is `vssl`."""

import signal

_ON_INTERRUPT = signal.getsignal(signal.SIGINT)
if _ON_INTERRUPT is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while Python loads there is nothing to tell: no traceback

from launch.cli import main

signal.signal(signal.SIGINT, _ON_INTERRUPT)
if __name__ == "__main__":
    main()
