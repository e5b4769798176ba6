"""Listening sockets, bound before anything else starts, so that a taken port is a clear refusal."""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from typing import Final

from loopgrid_collector.errors import Misconfigured, PortTaken

BACKLOG: Final = 2_048
_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


@dataclass(frozen=True, slots=True)
class Address:
    """One numeric IP address of this machine."""

    family: socket.AddressFamily
    ip: str

    def with_port(self, port: int) -> str:
        """``ip:port``, bracketed for IPv6, for people and programs that connect to it.

        The wildcard address is where a server listens, not where a client connects: it becomes loopback.
        """
        ip = ipaddress.ip_address(self.ip)
        if ip.is_unspecified:
            ip = ipaddress.ip_address("127.0.0.1" if ip.version == 4 else "::1")  # noqa: PLR2004
        return _join(str(ip), port)

    def listening_on(self, port: int) -> str:
        """``ip:port``, bracketed for IPv6, for a server to listen on."""
        return _join(self.ip, port)


def _not_here(host: str) -> Misconfigured:
    return Misconfigured(
        f"Host {host!r} is not an address of this machine. Choose one with --host (LOOPGRID_HOST): "
        "127.0.0.1 for this machine only, 0.0.0.0 or :: for every network."
    )


def _join(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def addresses_of(host: str) -> list[Address]:
    """Every address that a host name or an IP address (bracketed or not) stands for.

    Raises:
        Misconfigured: it stands for none. An empty host does not silently mean "everywhere".
    """
    name = host.strip().removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM) if name else []
    except (OSError, UnicodeError):
        found = []
    if not found:
        raise _not_here(host)
    addresses = [Address(family, str(where[0])) for family, _, _, _, where in found]
    return list(dict.fromkeys(addresses))


def bind(host: str, port: int, flag: str) -> tuple[list[socket.socket], list[Address], int]:
    """Bind every address of a host to one port, not listening yet.

    Args:
        host: as in ``addresses_of``.
        port: 0 lets the system choose.
        flag: the command-line flag that chooses the port, for the error message.

    Returns:
        The sockets, the address of each, and the port.

    Raises:
        PortTaken: another process has it.
        Misconfigured: the host is not this machine's, or the port needs privileges.
    """
    sockets: list[socket.socket] = []
    bound: list[Address] = []
    try:
        for address in addresses_of(host):
            opened = _bound(address, port, flag, host)
            if opened is not None:
                sockets.append(opened)
                bound.append(address)
                port = opened.getsockname()[1]
    except BaseException:  # whatever it was, the ports taken so far are given back
        close(sockets)
        raise
    if not bound:
        raise _not_here(host)
    return sockets, bound, port


def listen(sockets: list[socket.socket], port: int, flag: str) -> None:
    """Start to queue connections.

    Raises:
        PortTaken: another process was faster since ``bind``.
    """
    for opened in sockets:
        try:
            opened.listen(BACKLOG)
        except OSError as error:
            raise port_taken(port, flag) from error


def close(sockets: list[socket.socket]) -> None:
    """Close the sockets; a closed one is left alone."""
    for opened in sockets:
        opened.close()


def port_taken(port: int, flag: str) -> PortTaken:
    """The refusal to start."""
    variable = "LOOPGRID_" + flag.removeprefix("--").replace("-", "_").upper()
    return PortTaken(
        f"Port {port} is taken by another program. Stop that one, or choose another port "
        f"with {flag} ({variable})."
    )


def _bound(address: Address, port: int, flag: str, host: str) -> socket.socket | None:
    opened = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        # A restart must not wait for the last run's connections to time out.
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            only = not ipaddress.ip_address(address.ip).is_unspecified
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only))
        opened.settimeout(0)
        opened.bind((address.ip, port))
    except OSError as error:
        opened.close()
        if error.errno in _NOT_HERE:
            return None
        if error.errno == errno.EADDRINUSE:
            raise port_taken(port, flag) from error
        raise Misconfigured(
            f"Cannot listen on {host!r}, port {port}: {error.strerror}. Choose another with --host or {flag}."
        ) from error
    return opened
