"""Settings are read once, checked, and frozen."""

from __future__ import annotations

import dataclasses
import os

import pytest

import loopgrid
from loopgrid.config import CaptureLimits, Config, DeliveryLimits
from loopgrid.errors import Misconfigured
from loopgrid.tracing import settings


def test_a_password_in_the_endpoint_is_in_no_message():
    with pytest.raises(Misconfigured) as refused:
        Config(endpoint="http://ada:secret@127.0.0.1:8000")

    assert "//…@127.0.0.1:8000" in refused.value.message
    assert "secret" not in refused.value.message


def test_without_settings_there_are_defaults():
    assert Config.from_env({}) == Config()
    assert Config().endpoint == "http://127.0.0.1:8000"


def test_the_environment_is_read_and_arguments_win():
    environ = {
        "LOOPGRID_ENDPOINT": "https://grid.example/loop/",
        "LOOPGRID_SERVICE_NAME": "ours",
        "OTEL_SERVICE_NAME": "theirs",
        "LOOPGRID_API_KEY": "lg-1",
        "LOOPGRID_DISABLED": "TRUE",
    }

    config = Config.from_env(environ, api_key="lg-2", endpoint=None)

    assert config == Config("https://grid.example/loop", "ours", "lg-2", disabled=True)
    assert Config.from_env({"OTEL_SERVICE_NAME": "theirs"}).service_name == "theirs"


@pytest.mark.parametrize(
    "endpoint",
    ["localhost:8000", "ftp://host", "http://", "http://host:port", "http://h?q=1", "http://u:p@h", ""],
)
def test_an_endpoint_that_is_no_url_is_refused_with_an_example(endpoint):
    with pytest.raises(Misconfigured, match="write it like http://127"):
        Config(endpoint=endpoint)


def test_a_switch_that_is_neither_true_nor_false_is_refused():
    with pytest.raises(Misconfigured, match="LOOPGRID_DISABLED is 'maybe': write true or false"):
        Config.from_env({"LOOPGRID_DISABLED": "maybe"})


@pytest.mark.parametrize(
    "limits", [{"capture": CaptureLimits(max_depth=-1)}, {"delivery": DeliveryLimits(linger_s=-1)}]
)
def test_a_negative_limit_is_refused_by_name(limits):
    with pytest.raises(Misconfigured, match=r"(max_depth|linger_s) is -1"):
        Config(**limits)


def test_the_key_is_never_shown():
    assert "lg-1" not in repr(Config(api_key="lg-1"))


def test_settings_do_not_change_with_the_environment_once_read(monkeypatch):
    before = settings()
    monkeypatch.setitem(os.environ, "LOOPGRID_ENDPOINT", "http://elsewhere:1")

    assert settings() is before
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.endpoint = "x"  # type: ignore[misc]


def test_configure_refuses_what_cannot_be_meant_and_keeps_what_was(monkeypatch):
    loopgrid.configure(endpoint="http://here:1")

    with pytest.raises(Misconfigured):
        loopgrid.configure(endpoint="there")
    assert settings().endpoint == "http://here:1"
