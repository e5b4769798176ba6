"""Listening sockets, bound before anything else starts, so that a taken port is a clear refusal."""

from __future__ import annotations

import errno
import ipaddress
import os
import pathlib
import socket
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from loopgrid_collector.errors import Misconfigured, PortTaken

BACKLOG: Final = 2_048
_FAMILIES: Final = {"4": socket.AF_INET, "6": socket.AF_INET6}
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


def addresses_of(host: str, ip_family: str = "any") -> list[Address]:
    """Every address that a host name or an IP address (bracketed or not) stands for.

    Args:
        host: the name or address.
        ip_family: ``4`` or ``6`` to leave out those of the other family; ``any`` for all.

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
    wanted = [address for address in addresses if _FAMILIES.get(ip_family, address.family) == address.family]
    if not wanted:
        raise Misconfigured(
            f"Host {host!r} has no IPv{ip_family} address, and LOOPGRID_IP_FAMILY asks for one. "
            "Choose another host or family."
        )
    if ip_family == "6" and any(ipaddress.ip_address(address.ip).is_unspecified for address in wanted):
        raise Misconfigured(
            f"Host {host!r} takes IPv4 connections too, whatever LOOPGRID_IP_FAMILY says: the gRPC library "
            "cannot do otherwise. Name the IPv6 address to listen on."
        )
    return list(dict.fromkeys(wanted))


def bind(
    host: str, port: int, flag: str, ip_family: str = "any"
) -> tuple[list[socket.socket], list[Address], int]:
    """Bind every address of a host to one port, not listening yet.

    Args:
        host: as in ``addresses_of``.
        port: 0 lets the system choose.
        flag: the command-line flag that chooses the port, for the error message.
        ip_family: as in ``addresses_of``.

    Returns:
        The sockets, the address of each, and the port.

    Raises:
        PortTaken: another process has it.
        Misconfigured: the host is not this machine's, or the port needs privileges.
    """
    sockets: list[socket.socket] = []
    bound: list[Address] = []
    try:
        for address in addresses_of(host, ip_family):
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


def bind_path(path: str, variable: str) -> socket.socket:
    """Bind a Unix socket, not listening yet. Its file's rights follow the process's umask.

    Args:
        path: where its file goes.
        variable: the setting that chooses the path, for the error message.

    Raises:
        PortTaken: another process listens there.
        Misconfigured: the path cannot be used.
    """
    free_path(path, variable)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        opened.settimeout(0)
        opened.bind(path)
    except OSError as error:
        opened.close()
        raise _unusable(path, variable, error) from error
    return opened


def free_path(path: str, variable: str) -> None:
    """Take away the socket file of a process that is gone: a killed server leaves its file behind.

    Anything else that stands there, and a socket that somebody listens on, stays. Raises as ``bind_path``.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, variable, error) from error
    if not stat.S_ISSOCK(found.st_mode):
        raise Misconfigured(f"{variable} is {path!r}, which is there and no socket. Choose another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            pathlib.Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(path, variable, error) from error
        else:
            raise PortTaken(f"Another program listens on {path!r}. Stop that one, or change {variable}.")


def remove(path: str, inode: int) -> None:
    """Take the file of a Unix socket away, unless it is somebody else's by now."""
    with suppress(OSError):
        if os.lstat(path).st_ino == inode:
            pathlib.Path(path).unlink()


def _unusable(path: str, variable: str, error: OSError) -> Misconfigured:
    why = error.strerror or str(error)
    return Misconfigured(f"Cannot listen on {path!r}: {why}. Choose another path with {variable}.")
