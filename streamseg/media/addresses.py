"""Addresses of network streams: how they are read, which ones may be opened, and how they are written down.

An address may hold a password. ``StreamUrl`` therefore shows itself without it, and everything that is said about an
address is said about its ``redacted`` form.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from streamseg.errors import AddressRefusedError, BadSettingError, StreamUnavailableError

SCHEMES: Final = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
"""What can be opened, with the port that is meant where none is given."""
ACCEPTED_SCHEMES = "rtsp://, rtsps://, http:// or https://"

MAX_URL_CHARS = 2000
_SHOWN_CHARS = 200
_UNREADABLE = "an unreadable address"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# IPv6 addresses that lead to an IPv4 one somewhere else than they say: through a gateway, or in a tunnel.
_DETOURS = tuple(ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))


def is_stream_url(text: str) -> bool:
    """Whether ``text`` is an address (of any scheme) and not a path."""
    return _ADDRESS.match(text) is not None


def redacted(url: str) -> str:
    """``url`` as it may be shown and logged: without user, password, query and fragment. Never raises."""
    try:
        parts = urlsplit(url.strip())
        host = parts.netloc.rpartition("@")[2]
        path = parts.path
    except ValueError:
        return _UNREADABLE
    if not parts.scheme or not host:
        return _UNREADABLE
    # A password with an unescaped slash or question mark ends the host too early; what follows may be its rest.
    if "@" in parts.path or "@" in parts.query or "@" in parts.fragment:
        host, path = "...", ""
    # Some cameras take user and password in the path: /user=...&password=...
    if "=" in path:
        path = "/..."
    shown = f"{parts.scheme}://{host}{path}"
    shown = "".join(one if one.isprintable() else "?" for one in shown)
    return shown if len(shown) <= _SHOWN_CHARS else shown[:_SHOWN_CHARS] + "..."


@dataclass(frozen=True, slots=True)
class StreamUrl:
    """An address that was read: ``host`` is lower case, without brackets; ``port`` the one that is meant."""

    scheme: str
    host: str
    port: int
    full: str = field(repr=False)
    """As it was given, secrets included."""

    @classmethod
    def parse(cls, url: str) -> StreamUrl:
        """Raises AddressRefusedError for a scheme that is not served, and for what is no address."""
        shown = redacted(url)
        readable = shown != _UNREADABLE
        if not readable:
            # What cannot be taken apart is not quoted: it may hold a password.
            shown = "this"
        if len(url) > MAX_URL_CHARS or any(one.isspace() or not one.isprintable() or one == "\\" for one in url):
            raise AddressRefusedError(f"{shown} is no address: it is too long, or has spaces or backslashes in it")
        if not readable or not is_stream_url(url):
            raise AddressRefusedError(
                f"{shown} is no address; one begins with {ACCEPTED_SCHEMES}, like rtsp://192.168.1.20/stream1"
            )
        parts = _split(url)
        if parts is None:
            raise AddressRefusedError(f"{shown} names a port that is none")
        split, host, port = parts
        if split.scheme not in SCHEMES:
            hint = ""
            if split.scheme in ("srt", "rtmp", "rtmps", "udp", "rtp", "whep"):
                hint = "; a media server such as MediaMTX can offer that stream as RTSP"
            raise AddressRefusedError(f"{split.scheme}:// is not opened; {ACCEPTED_SCHEMES} are{hint}")
        if host is None:
            raise AddressRefusedError(f"{shown} names no host, or one that cannot be")
        return cls(split.scheme, host, port or SCHEMES[split.scheme], url)

    @property
    def shown(self) -> str:
        return redacted(self.full)

    @property
    def userinfo(self) -> str:
        """User and password as the address has them, still encoded; empty where it has none."""
        return urlsplit(self.full).netloc.rpartition("@")[0]

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User and password, decoded."""
        user, _, password = self.userinfo.partition(":")
        return (unquote(user), unquote(password)) if self.userinfo else None

    @property
    def target(self) -> str:
        """Path and query, as they were given."""
        split = urlsplit(self.full)
        return f"{split.path}?{split.query}" if split.query else split.path

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class AddressRule:
    """Which hosts may be connected to.

    ``allow``: host names (exact), IP addresses and networks (``192.168.1.0/24``), names and addresses also with a port
    (``camera.example.org:554``, ``[2001:db8::7]:554``). What counts is the address that a host turns out to have: one
    in a listed network is allowed under any name; one of a listed name is allowed if it is a public one. Multicast
    and unspecified addresses never are. Raises BadSettingError for an entry that is none of these.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._names: set[tuple[str, int | None]] = set()
        self._networks: list[tuple[IpNetwork, int | None]] = []
        for entry in allow:
            self._add(entry.strip())

    def check(self, url: str) -> None:
        """Refuse what can be refused without asking for the host's address. Raises AddressRefusedError."""
        parsed = StreamUrl.parse(url)
        literal = _literal(parsed.host)
        if literal is not None:
            self._check_address(literal, parsed.host, parsed.port)
        elif not self._is_named(parsed.host, parsed.port) and not self._networks:
            raise _not_allowed(parsed.host, parsed.port)

    def resolve(self, host: str, port: int, timeout_s: float) -> list[IpAddress]:
        """The addresses of ``host`` that may be connected to.

        Raises AddressRefusedError, and StreamUnavailableError as ``resolve`` does, but only for a host that is listed:
        whether another one exists is not told.
        """
        found: list[IpAddress] = []
        try:
            found = resolve(host, port, timeout_s)
        except StreamUnavailableError:
            if self._is_named(host, port):
                raise
        return self.permitted(host, port, found)

    def permitted(self, host: str, port: int, addresses: Sequence[IpAddress]) -> list[IpAddress]:
        """Those of a host's ``addresses`` that may be connected to; raises AddressRefusedError if none may."""
        found = [one for one in addresses if self._may(one, host, port)]
        if not found:
            raise _not_allowed(host, port)
        return found

    def _check_address(self, address: IpAddress, host: str, port: int) -> None:
        if not self._may(address, host, port):
            raise _not_allowed(host, port)

    def _may(self, address: IpAddress, host: str, port: int) -> bool:
        address = _plain(address)
        if address.is_multicast or address.is_unspecified or address == ipaddress.IPv4Address("255.255.255.255"):
            return False
        for network, only_port in self._networks:
            if only_port in (None, port) and address.version == network.version and address in network:
                return True
        return self._is_named(host, port) and _is_public(address)

    def _is_named(self, host: str, port: int) -> bool:
        return (host, None) in self._names or (host, port) in self._names

    def _add(self, entry: str) -> None:
        try:
            self._networks.append((ipaddress.ip_network(entry), None))
            return
        except ValueError:
            pass
        parts = _split(f"allow://{entry}")
        host, port = (None, None) if parts is None else parts[1:]
        # A name, with a port or without: nothing before it and nothing after it.
        if host is None or parts is None or parts[0].netloc != entry or "@" in entry or port == 0:
            raise BadSettingError(
                f"{entry!r} is no host name, IP address or network like 192.168.1.0/24"
                " (name and address may have a port, like camera.example.org:554)"
            )
        literal = _literal(host)
        if literal is not None:
            self._networks.append((ipaddress.ip_network(literal), port))
        else:
            self._names.add((host, port))


def resolve(host: str, port: int, timeout_s: float) -> list[IpAddress]:
    """The addresses of ``host``, in the order in which the system would try them.

    Raises StreamUnavailableError: no such host, or no answer in time.
    """
    literal = _literal(host)
    if literal is not None:
        return [literal]
    answers: queue.Queue[list[IpAddress] | str] = queue.Queue()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            answers.put([ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found])
        except (OSError, UnicodeError, ValueError):
            answers.put("there is no such host")

    # The system's own look-up cannot be given a time limit; what comes late is thrown away.
    threading.Thread(target=ask, name="streamseg-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        answer = f"looking up the host takes longer than {timeout_s:g} s"
    if isinstance(answer, str):
        raise StreamUnavailableError(f"{host}: {answer}")
    return list(dict.fromkeys(answer))


def _split(url: str) -> tuple[SplitResult, str | None, int | None] | None:
    """The parts of an address, its host (None: there is none, or it is none) and its port (None: not given)."""
    try:
        split = urlsplit(url)
        given = split.hostname or ""
        port = split.port
    except ValueError:
        return None
    host: str | None = given.rstrip(".").lower()
    if host and _literal(host) is None:
        host = _ascii_name(host)
    return split, host or None, port


def _ascii_name(host: str) -> str | None:
    try:
        name = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return None
    return name if _HOST.fullmatch(name) else None


def _literal(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _plain(address: IpAddress) -> IpAddress:
    """An IPv4 address that is dressed as an IPv6 one, undressed."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_public(address: IpAddress) -> bool:
    if any(address.version == net.version and address in net for net in _DETOURS):
        return False
    # Python takes the former private addresses of IPv6 for public ones.
    if isinstance(address, ipaddress.IPv6Address) and address.is_site_local:
        return False
    return address.is_global and not address.is_reserved


def _not_allowed(host: str, port: int) -> AddressRefusedError:
    shown = f"[{host}]" if ":" in host else host
    return AddressRefusedError(f"{shown}:{port} may not be opened; ask the operator to list it under network.allow")
