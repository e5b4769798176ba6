"""The file that says whom replays may ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loopgrid_collector.errors import Misconfigured
from loopgrid_query.replay.providers import Provider, Providers

KEY = "sk-very-secret"
ENVIRON = {"OPENAI_API_KEY": f" {KEY}\n", "EMPTY": "", "ODD": "sk\nx"}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """What a file of this text says; its folder holds a key in ``key``."""
    (tmp_path / "key").write_text(KEY + "\n")

    def reading(text: str) -> Providers:
        path = tmp_path / "providers.toml"
        path.write_text(text.replace("FOLDER", str(tmp_path)))
        return Providers.read(str(path), ENVIRON)

    return reading


def test_without_a_file_there_are_none():
    assert dict(Providers.read("", ENVIRON)) == {}


def test_a_provider_is_told_by_its_name_and_where_its_key_is(read):
    found = read(
        """
        [openai]
        api_key_env = "OPENAI_API_KEY"

        [anthropic]
        api_key_file = "FOLDER/key"
        timeout_s = 30

        ["azure.ai.openai"]
        base_url = "https://acme.openai.azure.com/openai/v1/"
        max_attempts = 1
        max_retry_wait_s = 2.5
        concurrency = 4
        requests_per_minute = 60
        tokens_per_minute = 90_000
        """
    )

    assert dict(found) == {
        "openai": Provider("openai", "openai", "https://api.openai.com/v1", KEY),
        "anthropic": Provider("anthropic", "anthropic", "https://api.anthropic.com", KEY, timeout_s=30),
        "azure.ai.openai": Provider(
            "azure.ai.openai",
            "openai",
            "https://acme.openai.azure.com/openai/v1",
            max_attempts=1,
            max_retry_wait_s=2.5,
            concurrency=4,
            requests_per_minute=60,
            tokens_per_minute=90_000,
        ),
    }


def test_a_key_is_not_shown(read):
    assert KEY not in repr(dict(read('[openai]\napi_key_env = "OPENAI_API_KEY"')))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[openai", "no TOML"),
        ("openai = 1", "no table"),
        (f'[openai]\napi_key = "{KEY}"', "api_key_env"),
        ('[openai]\napi_key_enf = "X"', "api_key_env"),
        ('[openai]\napi_key_env = "OPENAI_API_KEY"\napi_key_file = "FOLDER/key"', "not both"),
        ('[openai]\napi_key_env = "MISSING"', "MISSING holds no key"),
        ('[openai]\napi_key_env = "EMPTY"', "EMPTY holds no key"),
        ('[openai]\napi_key_env = "ODD"', "ODD holds no key"),
        ('[openai]\napi_key_file = "FOLDER/none"', "cannot be read"),
        ("[acme]", "base_url is missing"),
        ("[openai]\nconcurrency = 0", "concurrency must be a whole number greater than 0. Leave it out"),
        ("[openai]\nrequests_per_minute = 0.5", "requests_per_minute must be a whole number"),
        ("[openai]\ntokens_per_minute = true", "tokens_per_minute must be a whole number"),
        ("[openai]\ntokens_per_minutes = 9", "tokens_per_minute"),
        ('[acme]\nbase_url = "acme.example/v1"', "https://"),
        ('[acme]\nbase_url = "file:///etc/passwd"', "https://"),
        ('[acme]\nbase_url = "https://me:pw@acme.example/v1"', "no user"),
        ('[acme]\nbase_url = "https://acme.example/v1?key=1"', "no query"),
        ('[openai]\nprotocol = "grpc"', "openai or anthropic"),
        ("[openai]\ntimeout_s = 0", "greater than 0"),
        ("[openai]\nmax_attempts = 1.5", "max_attempts"),
        ("[openai]\nmax_retry_wait_s = true", "max_retry_wait_s"),
        ("[openai]\ntimeout_s = inf", "timeout_s"),
        ("[openai]\nbase_url = 1", "must be text"),
    ],
)
def test_what_cannot_be_meant_ends_the_start_and_names_the_place(read, text, words):
    with pytest.raises(Misconfigured) as caught:
        read(text)

    assert words in str(caught.value)
    assert "providers.toml" in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(Misconfigured, match="LOOPGRID_PROVIDERS names"):
        Providers.read(str(tmp_path / "none.toml"), ENVIRON)
