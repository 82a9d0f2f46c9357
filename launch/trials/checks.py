"""What a preflight has found out, and how it is shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from launch.exit_codes import BAD_INPUT, DONE, FAILED, TRY_AGAIN

if TYPE_CHECKING:
    from rich.console import Console

Result = Literal["ok", "failed", "refused", "not tried", "no answer"]
_STYLE = {"ok": "green", "failed": "bold red", "refused": "bold red", "not tried": "yellow", "no answer": "yellow"}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was tried.

    `refused` is mended in the line or on the site, `failed` in the code or the data; `no answer` is Slurm's silence.
    """

    what: str
    result: Result
    note: str = ""


def exit_code(checks: Sequence[Check]) -> int:
    """0: nothing speaks against submitting; 1: a stage fails; 2: something is to be mended first; 75: who knows."""
    results = {check.result for check in checks}
    codes: dict[Result, int] = {"failed": FAILED, "refused": BAD_INPUT, "no answer": TRY_AGAIN}
    return next((code for result, code in codes.items() if result in results), DONE)


def print_checks(checks: Sequence[Check], console: "Console") -> None:
    """One line for each check."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("tried", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("", overflow="fold")
    for check in checks:
        table.add_row(Text(check.what), Text(check.result, style=_STYLE[check.result]), Text(check.note))
    console.print(table)
