"""Secrets stay out of what is written and printed: logs, records and trackers outlive the shell that knew them.

Text of our own holds none. Text from elsewhere may: an exception quotes the address it could not reach, a tool repeats
its command line. A variable is taken for a secret by its name; the password in an address by its place.
"""

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote

MARK = "***"
SHORTEST = 6  # characters; shorter values stand in many a text by chance

_ANYWHERE = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|APIKEY")
_AS_A_WORD = re.compile(r"(?<![A-Z])(KEYS?|AUTH|PASS|PAT|COOKIE)(?![A-Z])")
_USER_INFO = re.compile(r"(?<=://)[^\s/?#'\"]+(?=@)")
_QUERY = re.compile(r"(?<=[?&;])([\w.-]*(?:token|secret|passw|key|sig|auth)[\w.-]*=)[^\s&;'\"]+", re.IGNORECASE)


def redact(text: str, environment: Mapping[str, str]) -> str:
    """The text with every secret that the environment names, and every user and password in an address, as `***`."""
    for secret in sorted(set(_secrets(environment)), key=len, reverse=True):  # one may be part of another
        text = text.replace(secret, MARK)
    return _QUERY.sub(rf"\1{MARK}", _USER_INFO.sub(MARK, text))


def is_secret(name: str) -> bool:
    """Whether a variable's name says that nobody else is to read its value."""
    upper = name.upper()
    return bool(_ANYWHERE.search(upper) or _AS_A_WORD.search(upper))


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    """Secrets in every form in which a text may quote them: plain, in an address, in a representation, line by line."""
    for name, value in environment.items():
        plain = [value, *value.splitlines()] if is_secret(name) else list(_passwords(value))
        for one in plain:
            for form in (one, unquote(one), quote(one, safe=""), repr(one)[1:-1], json.dumps(one)[1:-1]):
                if len(form.strip()) >= SHORTEST:
                    yield form


def _passwords(value: str) -> Iterator[str]:
    """Passwords of the addresses in a value, as in postgresql://user:password@host/name."""
    for found in _USER_INFO.finditer(value):
        _, colon, password = found.group().partition(":")
        yield password if colon else found.group()
