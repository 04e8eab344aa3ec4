"""Where a webhook may go: over HTTPS to public addresses, or to hosts that the operator named; nowhere else.

A name is resolved once and all of its addresses are looked at. Whoever connects does so to one of these, so that a name
which answers otherwise a moment later leads nowhere else.
"""

import re
import socket
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from schema.errors import BadTarget

Resolver = Callable[[str, int], Sequence[str]]
"""From a name and a port to addresses. Raises BadTarget if the name has none."""

MAX_URL = 2000
_PORTS = {"https": 443, "http": 80}
_SHOWN = 200
_PLAIN = re.compile(r"[!-\[\]-~]+")  # printable ASCII without spaces and backslashes, which parsers read differently
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# The special-purpose registries of IANA, as of 2026: everything that is not somebody's public address.
_NOT_PUBLIC_4 = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",
            "168.63.129.16/32",  # a public address in form; in Azure it is the host of the machine
            "169.254.0.0/16",  # link-local, and the metadata of clouds
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",  # relays to IPv6
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",
        ),
    )
)
_PUBLIC_6 = ip_network("2000::/3")  # leaves out loopback, link-local, IPv4-mapped, NAT64 (64:ff9b::/96) and multicast
_NOT_PUBLIC_6 = tuple(map(ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))  # 2002: 6to4


class Target(NamedTuple):
    """Where a URL leads.

    host:       lower case; an IPv6 address without its brackets.
    path:       with the query.
    addresses:  one at least; nothing else may be connected to.
    """

    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]

    @property
    def authority(self) -> str:
        """Return the host and, unless it is the scheme's own, the port, as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses that this machine's resolver knows of a name. Raises BadTarget if there are none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise BadTarget(f"host {host!r} can't be resolved: {exc}") from exc
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def locate(url: str, trusted: Collection[str] = (), resolve: Resolver = resolve) -> Target:
    """Return where a URL leads.

    trusted:  hosts, as `name` or `name:port`, that may have any address and need no HTTPS.

    Raises: BadTarget if a request may not be sent there.
    """
    parts, port = _split(url)
    host = _host(parts, url)
    is_trusted = not {host, f"{host}:{port}"}.isdisjoint(name.lower() for name in trusted)
    if parts.scheme != "https" and not is_trusted:
        raise BadTarget(f"{_shown(url)}: must be HTTPS")
    addresses = (host,) if _is_address(host) else tuple(resolve(host, port))
    if not addresses:
        raise BadTarget(f"host {host!r} has no address")
    refused = [address for address in addresses if not (is_trusted or is_public(address))]
    if refused:
        raise BadTarget(f"host {host!r} has the address {refused[0]}, which is not public; the operator may allow it")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, path, addresses)


def is_public(address: str) -> bool:
    """Return whether an address is one of the public internet: no network's own, no form of another address."""
    ip = _address(address)
    match ip:
        case IPv4Address():
            return not any(ip in network for network in _NOT_PUBLIC_4)
        case IPv6Address():
            return ip in _PUBLIC_6 and not any(ip in network for network in _NOT_PUBLIC_6)
    return False


def _split(url: str) -> tuple[SplitResult, int]:
    """Return the parts of a URL and its port."""
    if len(url) > MAX_URL:
        raise BadTarget(f"{_shown(url)}: {len(url)} characters; must be at most {MAX_URL}")
    if not _PLAIN.fullmatch(url):
        raise BadTarget(f"{_shown(url)}: must be printable ASCII; write a name in other letters in its xn-- form")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise BadTarget(f"{_shown(url)}: not a URL: {exc}") from exc
    if parts.scheme not in _PORTS:
        raise BadTarget(f"{_shown(url)}: must begin with https://")
    if parts.username is not None or parts.password is not None:
        raise BadTarget("the URL has a user or a password; must have none: deliveries are signed instead")
    if "#" in url:
        raise BadTarget(f"{_shown(url)}: must have no fragment")
    if port == 0:
        raise BadTarget(f"{_shown(url)}: port 0; must be 1..65535")
    return parts, _PORTS[parts.scheme] if port is None else port


def _host(parts: SplitResult, url: str) -> str:
    """Return the host in the one form in which it is looked at and connected to."""
    host = (parts.hostname or "").lower().removesuffix(".")
    if _is_address(host):
        return str(ip_address(host))
    if not _NAME.fullmatch(host) or len(host) > 253:
        raise BadTarget(f"{_shown(url)}: {host!r} is no host name or address")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):  # 127.1, 0x7f000001, 017700000001: resolvers read them as addresses
        raise BadTarget(f"{_shown(url)}: {host!r} is no address; write one as four decimal numbers")
    return host


def _is_address(host: str) -> bool:
    return _address(host) is not None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address, None for what is none; an address within a zone (%eth0) is none that is known here."""
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


def _shown(url: str) -> str:
    return f"url={url[:_SHOWN]!r}"
