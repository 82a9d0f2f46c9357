import json
import traceback
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launch.running.redaction import MARK, is_secret, redact


@pytest.mark.parametrize(
    "name",
    [
        *(
            "GITHUB_TOKEN",
            "HF_TOKEN",
            "MLFLOW_TRACKING_TOKEN",
            "WANDB_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "MYSQL_PASSWD",
        ),
        *(
            "MLFLOW_TRACKING_PASSWORD",
            "DB_PASS",
            "azure_credentials",
            "SSHPASSPHRASE",
            "OPENAI_APIKEY",
            "API_KEYS",
            "AUTH",
        ),
    ],
)
def test_names_that_say_secret(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["PATH", "PWD", "KEYBOARD", "MONKEY", "AUTHOR_NAME", "COMPASS", "PATTERN", "SLURM_JOB_ID", "VSSL_ROOT"]
)
def test_names_that_do_not(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("push to https://ann:hunter22@host/x failed", f"push to https://{MARK}@host/x failed"),
        ("postgresql://u:p%40ss%3Aw@db:5432/mlflow", f"postgresql://{MARK}@db:5432/mlflow"),
        ("clone https://ghp_abc@git.example/r", f"clone https://{MARK}@git.example/r"),
        ("two http://a:b@h1 and http://c:d@h2.", f"two http://{MARK}@h1 and http://{MARK}@h2."),
        ("http://host/a?x=1&access_token=abc&y=2", f"http://host/a?x=1&access_token={MARK}&y=2"),
        ("see http://host/@user and mail ann@host", "see http://host/@user and mail ann@host"),
        ("nothing here: 3/4 @ 5", "nothing here: 3/4 @ 5"),
    ],
)
def test_addresses(text: str, safe: str) -> None:
    assert redact(text, {}) == safe


def test_a_password_of_an_address_in_the_environment_is_secret_by_itself() -> None:
    uri = "http://ann:s3cr3t%21pass@mlflow:5000"
    text = redact("401 for user ann with s3cr3t!pass (s3cr3t%21pass)", {"MLFLOW_TRACKING_URI": uri})
    assert text == f"401 for user ann with {MARK} ({MARK})"


def test_short_values_stay() -> None:
    assert redact("seed 12345 of 12345", {"SOME_KEY": "12345"}) == "seed 12345 of 12345"
    assert redact("it is false", {"TOKENIZERS_PARALLELISM": "false"}) == "it is false"


def test_the_longer_secret_goes_first() -> None:
    environment = {"A_TOKEN": "abcdef", "B_TOKEN": "abcdef-and-more"}
    assert redact("abcdef-and-more abcdef", environment) == f"{MARK} {MARK}"


def test_every_line_of_a_key_is_secret() -> None:
    key = "-----BEGIN KEY-----\nMIIEpAIBAAKC\nxyz123abc\n-----END KEY-----\n"
    safe = redact(f"bad key {key!r}; at line xyz123abc", {"DEPLOY_KEY": key})
    assert "MIIE" not in safe
    assert "xyz" not in safe


secrets = st.text(min_size=6, max_size=20).filter(lambda text: len(text.strip()) >= 6 and MARK not in text)


@given(secrets)
def test_no_exception_gives_a_secret_away(secret: str) -> None:
    try:
        raise ValueError(f"could not log in with {secret}", secret)
    except ValueError as error:
        text = "".join(traceback.format_exception(error))
    safe = redact(f"{text} {json.dumps(secret)} {quote(secret, safe='')}", {"MY_TOKEN": secret})
    kept = safe.replace(MARK, "")
    assert repr(secret)[1:-1] not in kept
    assert quote(secret, safe="") not in kept
