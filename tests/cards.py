"""What a card says, and the numbers that come with it, against the tests that hold them: `<module>:<test>` each."""

import fnmatch
import importlib
from collections.abc import Iterable, Mapping

from tests.goldens import FOLDER


def assert_tests_are_there(tests: Iterable[str]) -> None:
    """A test that was renamed, or taken away, is missed here; so is a point without any."""
    named = list(tests)
    assert named
    for test in named:
        module, _, name = test.partition(":")
        assert callable(getattr(importlib.import_module(module), name, None)), test


def assert_files_have_tests(system: str, tests: Mapping[str, str]) -> None:
    """Patterns of golden files -> the test that reads them.

    A file that is added is missed here, and so is one that is gone: a test over no files passes in silence.
    """
    files = {path.stem for path in (FOLDER / system).glob("*.npz")}
    found = {pattern: fnmatch.filter(files, pattern) for pattern in tests}
    assert all(found.values()), [pattern for pattern, names in found.items() if not names]
    assert {name for names in found.values() for name in names} == files
    assert_tests_are_there(tests.values())
