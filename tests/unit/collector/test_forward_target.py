"""The endpoint of ``--forward``, read from settings."""

from __future__ import annotations

import pytest

from loopgrid_collector.config import CollectorConfig
from loopgrid_collector.errors import Misconfigured
from loopgrid_collector.forward_target import refuse_own, target

EVERYWHERE = "0.0.0.0"  # noqa: S104 - a value, nothing is bound


@pytest.mark.parametrize(
    ("url", "base", "host", "port"),
    [
        ("http://collector:4318", "http://collector:4318", "collector", 4318),
        ("https://backend.example/otlp/", "https://backend.example/otlp", "backend.example", 443),
        ("http://[::1]:80/", "http://[::1]:80", "::1", 80),
    ],
)
def test_a_base_url_is_taken_with_its_path(url, base, host, port):
    aim = target(url)

    assert (aim.url, aim.host, aim.port) == (base, host, port)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("collector:4317", "gRPC"),
        ("grpc://collector:4317", "gRPC"),
        ("http://", "no host"),
        ("http://collector:99999", "not a URL"),
        ("http://collector:4318/v1/traces", "leave /v1/traces away"),
        ("http://collector:4318?key=1", "query"),
        ("http://user:s3cret@collector:4318", "LOOPGRID_FORWARD_HEADERS"),
    ],
)
def test_anything_else_is_refused_with_the_reason_and_an_example(url, why):
    with pytest.raises(Misconfigured, match=why) as refused:
        target(url)

    assert "http://collector:4318" in refused.value.message
    assert "s3cret" not in refused.value.message


def test_headers_are_read_as_opentelemetry_writes_them():
    aim = target("http://collector", "Authorization=Bearer%20a%2Cb, x-scope=1=2,")

    assert dict(aim.headers) == {"authorization": "Bearer a,b", "x-scope": "1=2"}


@pytest.mark.parametrize("text", ["s3cret", "=s3cret", "a b=s3cret", "a=s3cret%0d%0ax: y", "host=s3cret"])
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(text):
    with pytest.raises(Misconfigured) as refused:
        target("http://collector", text)

    assert "s3cret" not in refused.value.message


def test_secrets_are_not_shown_when_settings_are():
    shown = repr(target("http://collector", "a=s3cret")) + repr(CollectorConfig(forward_headers="a=s3cret"))

    assert "s3cret" not in shown


def test_a_target_beside_this_server_or_not_known_yet_is_fine():
    refuse_own(target("http://127.0.0.1:4318"), [("127.0.0.1", 8000), ("127.0.0.1", 4317)])
    refuse_own(target("http://nowhere.invalid:4318"), [(EVERYWHERE, 4318)])
    refuse_own(target("http://192.0.2.1:4318"), [(EVERYWHERE, 4318)])
