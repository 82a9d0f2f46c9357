"""The system's Chromium, headless, with a profile of its own that ends with it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


def missing() -> str:
    """What a machine lacks to open pages; empty where it lacks nothing."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {' and no '.join(absent)} (Debian: chromium, chromium-driver)" if absent else ""


@contextmanager
def browser(profile: Path, *, width: int = 1600, height: int = 1000) -> Iterator[Any]:
    """A driver of a new browser whose profile is a new folder."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(shutil.which("chromedriver"))))
    try:
        yield driver
    finally:
        driver.quit()


def found(driver: Any, selector: str, text: str = "", *, seconds: float = 90.0) -> Any:
    """The first element of a CSS selector that shows a text, once there is one."""
    return until(driver, lambda: next(iter(elements(driver, selector, text)), None), f"{selector} {text!r}", seconds)


def elements(driver: Any, selector: str, text: str = "") -> list[Any]:
    """All elements of a CSS selector that show a text; ones that the page has replaced meanwhile are none."""
    from selenium.common.exceptions import StaleElementReferenceException

    try:
        return [one for one in driver.find_elements("css selector", selector) if text in one.text]
    except StaleElementReferenceException:
        return []


def until(driver: Any, look: Callable[[], Any], what: str, seconds: float = 90.0) -> Any:
    """What `look` returns, once that is something."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds).until(
        lambda _: look(), f"{what} did not come; the page is {driver.current_url}"
    )
