"""What a person sees who opens MLflow on the results: `make ui` in a browser, on a small pipeline's journals."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import browser, elements, found, missing, until
from tests.lines import environment
from tests.tracked import START_MS, Pipeline, free_port

CHECKOUT = Path(__file__).resolve().parent.parent
ROWS = "[row-id]"  # of the table of runs; the table draws each row in two halves
CURVES = ".scatterlayer path.js-line"

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.skipif(
        not (CHECKOUT / ".venv/bin/python").exists(), reason="`make ui` needs the .venv that make sets up"
    ),
]


STAGES = {"single-rgb": "pretrain", "single-flow": "pretrain", "retrieval": "retrieval"}


def three_stages(root: Path) -> Pipeline:
    """Two trainings with curves, one after the other, and an evaluation: as their jobs leave them."""
    pipeline = Pipeline(root, sweep="demo")
    pipeline.kinds = STAGES
    pipeline.ids = {name: f"{number:016x}" for number, name in enumerate(STAGES, start=1)}
    pipeline.ids["single"] = pipeline.ids["single-rgb"]  # what the evaluation reads
    pipeline.write_plan()
    for number, name in enumerate(STAGES):
        at_ms = START_MS + 20_000 * number
        pipeline.attempt(name, 1, "done", at_ms=at_ms)
        pipeline.log(name, range(30), scale=1.0 + number)
        pipeline.done(name, {"loss_last": 0.2}, at_ms=at_ms + 15_000)
    return pipeline


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """What `make ui` tells its user to open."""
    three_stages(tmp_path / "store")
    said = tmp_path / "said"
    with open(said, "wb") as stream:
        words = [str(CHECKOUT / ".ci" / "ui"), str(tmp_path / "store"), str(free_port())]
        process = subprocess.Popen(words, env=environment(), stdout=stream, stderr=stream, start_new_session=True)
    try:
        yield _told(said, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _told(said: Path, process: "subprocess.Popen[bytes]") -> str:
    while "Ctrl-C" not in said.read_text():
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(said.read_text())
    (link,) = re.findall(r"open (\S+) for demo", said.read_text())
    return str(link)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    with browser(tmp_path / "profile", width=1700, height=1000) as driver:
        yield driver


def shown_runs(page: Any) -> dict[str, str]:
    """Name -> id of every run that the table shows, from top to bottom."""
    links = elements(page, f"{ROWS} a[href*='/runs/']")
    return {link.text.strip(): link.get_attribute("href").rpartition("/")[2] for link in links}


def cell(page: Any, run: str, column: str) -> Any:
    return found(page, f'[row-id="{run}"] [col-id="{column}"]')


def test_a_pipeline_reads_as_such_and_two_of_its_runs_can_be_compared(address: str, page: Any, tmp_path: Path) -> None:
    page.get(address)
    found(page, ROWS, "demo-")
    assert "/runs?workflowType=machine_learning" in page.current_url, "not where chats and traces are listed"
    (parent,) = shown_runs(page)
    page.save_screenshot(str(tmp_path / "opened.png"))

    found(page, f"{ROWS} button").click()
    runs = until(page, lambda: (now := shown_runs(page)).keys() >= set(STAGES) and now, "every stage")
    page.save_screenshot(str(tmp_path / "stages.png"))
    assert list(runs) == [parent, *STAGES], "in the order of the pipeline"
    durations = [cell(page, run, "duration").text.strip() for run in runs.values()]
    assert durations == ["55.0s", "15.0s", "15.0s", "15.0s"]
    signs = [cell(page, run, "runDateAndNestInfo").find_element("css selector", "svg") for run in runs.values()]
    assert len({sign.get_attribute("innerHTML") for sign in signs}) == 1, "one sign of status for all: finished"

    for name in ("single-rgb", "single-flow"):
        found(page, f'[row-id="{runs[name]}"] .ag-selection-checkbox input').click()
    found(page, "button", "Compare").click()
    found(page, "h1, h2", "Comparing 2 Runs")
    page.save_screenshot(str(tmp_path / "compared.png"))
    page.get(found(page, "a[href*='metric=%22loss%22']").get_attribute("href"))
    for name in ("single-rgb", "single-flow"):
        found(page, "body", f"{name} (loss)")  # in the legend
    lines = until(page, lambda: elements(page, CURVES), "curves")
    assert len({line.value_of_css_property("stroke") for line in lines}) == 2, "two colours in one plot"
    page.save_screenshot(str(tmp_path / "curves.png"))

    page.get(f"{address.partition('#')[0]}#/experiments/1/runs/{runs['single-flow']}")
    found(page, "body", "Finished")
