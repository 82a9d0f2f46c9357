"""Names of parameters under other names, by rules. Torch-free."""

import re
from collections.abc import Callable

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]


def renamed(name: str, rules: Rules) -> str:
    """A name after all rules: pattern and replacement, each tried on what those before it have left."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
