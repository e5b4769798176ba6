"""Where ``--forward`` sends to: read from settings, and refused where it would send in a circle."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from loopgrid_collector.errors import Misconfigured

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_SIGNAL_PATH: Final = re.compile(r"/v1/(traces|logs|metrics)$")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_OURS: Final = frozenset({"content-type", "content-encoding", "content-length", "host", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Target:
    """An OTLP/HTTP endpoint.

    Attributes:
        url: base URL without a slash at its end; ``/v1/<signal>`` is appended.
        host: its host name or address.
        port: its port.
        headers: sent with every request; they may hold secrets and are never shown.
    """

    url: str
    host: str
    port: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def target(url: str, headers: str = "") -> Target:
    """The endpoint that the settings name.

    Args:
        url: ``http(s)://host[:port][/path]``.
        headers: ``name=value`` pairs with commas between them and percent-encoded values, as in
            ``OTEL_EXPORTER_OTLP_HEADERS``.

    Raises:
        Misconfigured: it is no such URL, or a header cannot be sent. Values are not quoted.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _misconfigured("it is not a URL") from error
    if parts.scheme not in _DEFAULT_PORTS:
        raise _misconfigured("OTLP/gRPC is not spoken here, only OTLP/HTTP")
    if not parts.hostname:
        raise _misconfigured("it names no host")
    if parts.username is not None:
        raise _misconfigured("credentials do not belong into a URL; use LOOPGRID_FORWARD_HEADERS")
    if parts.query or parts.fragment:
        raise _misconfigured("a base URL has no query and no fragment")
    path = parts.path.rstrip("/")
    if found := _SIGNAL_PATH.search(path):
        raise _misconfigured(f"leave {found[0]} away, it is appended for each signal")
    base = f"{parts.scheme}://{parts.netloc}{path}"
    where = parts.hostname, port if port is not None else _DEFAULT_PORTS[parts.scheme]
    return Target(base, *where, headers=_headers(headers))


def refuse_own(aim: Target, own: Iterable[tuple[str, int]]) -> None:
    """Refuse a target that is this server: what it stores would come back to it.

    Args:
        aim: the target. A name that cannot be resolved now is left for later.
        own: (numeric IP address, port) of everything this server listens on.

    Raises:
        Misconfigured: the target is one of them.
    """
    here = {ipaddress.ip_address(ip) for ip, port in own if port == aim.port}
    if not here:
        return
    anywhere = any(ip.is_unspecified for ip in here)
    for ip in _resolved(aim.host):
        if ip in here or (anywhere and _is_of_this_machine(ip)) or ip.is_unspecified:
            raise Misconfigured(
                f"--forward {aim.url} is this server's own port: what it stores would come back to it. "
                "Name another endpoint with --forward (LOOPGRID_FORWARD)."
            )


def _misconfigured(why: str) -> Misconfigured:
    # The URL itself is not repeated: it may hold a secret.
    return Misconfigured(
        f"--forward (LOOPGRID_FORWARD) cannot be used: {why}. Give the base URL of an OTLP/HTTP endpoint, "
        "for example http://collector:4318."
    )


def _headers(text: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    for place, pair in enumerate((pair for pair in text.split(",") if pair.strip()), start=1):
        name, equals, value = pair.partition("=")
        name, value = name.strip().lower(), unquote(value.strip())
        if not equals or not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise Misconfigured(
                f"Header {place} of LOOPGRID_FORWARD_HEADERS or --forward-header is not name=value."
            )
        if name in _OURS:
            raise Misconfigured(f"The header {name} is set by the forwarder itself; leave it away.")
        headers[name] = value
    return headers


def _resolved(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    addresses = [ipaddress.ip_address(str(where[0]).partition("%")[0]) for *_, where in found]
    # ::ffff:127.0.0.1 is 127.0.0.1.
    return [getattr(address, "ipv4_mapped", None) or address for address in addresses]


def _is_of_this_machine(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether a socket could be bound to the address."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6  # noqa: PLR2004 - IP's version number
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(ip), 0))
    except OSError:
        return False
    return True
