"""Ports are taken at once or refused with what to do about it."""

from __future__ import annotations

import socket

import pytest

from loopgrid_collector.errors import Misconfigured, PortTaken
from loopgrid_collector.receivers import sockets


@pytest.fixture
def occupied():
    """A port that another socket listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_taken_port_is_refused_with_its_number_its_flag_and_its_variable(occupied):
    with pytest.raises(PortTaken) as refused:
        sockets.bind("127.0.0.1", occupied, "--otlp-http-port")

    assert str(occupied) in refused.value.message
    assert "--otlp-http-port (LOOPGRID_OTLP_HTTP_PORT)" in refused.value.message


def test_a_port_that_is_lost_between_binding_and_listening_is_refused_too():
    first, _, port = sockets.bind("127.0.0.1", 0, "--port")
    second, _, _ = sockets.bind("127.0.0.1", port, "--port")
    try:
        sockets.listen(first, port, "--port")
        with pytest.raises(PortTaken):
            sockets.listen(second, port, "--port")
    finally:
        sockets.close(first + second)


def test_a_host_name_is_bound_at_each_of_its_addresses_on_one_port():
    bound, addresses, port = sockets.bind("localhost", 0, "--port")
    try:
        assert port > 0
        assert {opened.getsockname()[1] for opened in bound} == {port}
        assert len(bound) == len(addresses)
    finally:
        sockets.close(bound)


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6_is_written_with_or_without_brackets(host):
    (address,) = sockets.addresses_of(host)

    assert address.with_port(4318) == "[::1]:4318"


@pytest.mark.parametrize(("host", "reached"), [("0.0.0.0", "127.0.0.1:1"), ("::", "[::1]:1")])  # noqa: S104
def test_a_wildcard_is_reached_over_loopback(host, reached):
    (address,) = sockets.addresses_of(host)

    assert address.with_port(1) == reached
    assert address.ip == host


@pytest.mark.parametrize("host", ["", " ", "no-such-host.invalid", "1.2.3.4.5", "192.0.2.1"])
def test_a_host_that_is_not_here_is_refused_and_an_empty_one_never_means_everywhere(host):
    with pytest.raises(Misconfigured, match="--host"):
        sockets.bind(host, 0, "--port")
