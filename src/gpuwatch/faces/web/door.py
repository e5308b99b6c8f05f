"""Who may come in: the names that the page is asked for under, where a websocket comes from, the token and the cookie.

Pure: `server.py` asks, with what a request says. Every comparison with a secret takes the same time for right and wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from dataclasses import dataclass, field

OWN_NAME = "gpuwatch.localhost"
"""Browsers take every name under localhost for this machine, and send this one's cookies to no other server on it."""
LEAST_TOKEN_LENGTH, MOST_TOKEN_LENGTH = 16, 512

_HOST = re.compile(r"([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_TOKEN_BYTES = 32


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


@dataclass(frozen=True, slots=True)
class Door:
    """What is needed to come in."""

    token: str = field(repr=False)
    names: frozenset[str]
    """Hosts that the page may be asked for under, without the port: a tunnel may have another one."""
    any_address: bool = False
    """Whether every numeric address is taken too: where the server listens on all of them. A page of another site can give
    its own name this machine's address, but not have its own origin look like a number."""

    def knows_host(self, header: str | None) -> bool:
        """Whether a Host header names this server: a site that has its name lead here does not."""
        found = _HOST.fullmatch(header.lower()) if header is not None else None
        if found is None:
            return False
        return found[1] in self.names or (self.any_address and is_numeric(found[1]))

    def is_ours(self, origin: str | None, host: str | None) -> bool:
        """Whether a websocket is opened by the page that was asked for under this host, and by no other."""
        return origin is not None and host is not None and origin == f"http://{host.lower()}"

    def lets_in(self, token: str | None) -> bool:
        """Whether this is the token."""
        return token is not None and same(token, self.token)

    def remembers(self, cookie: str | None) -> bool:
        """Whether this is the cookie of somebody who had the token."""
        return cookie is not None and same(cookie, self.cookie)

    @property
    def cookie(self) -> str:
        """What a browser keeps: made of the token, and not to be turned back into it."""
        return hmac.digest(self.token.encode(), b"gpuwatch web: cookie", "sha256").hex()


def cookie_name(host: str | None) -> str:
    """The cookie's name: browsers keep one jar for all ports of a host, and another server may be beside this one."""
    found = _HOST.fullmatch(host.lower()) if host is not None else None
    return f"gpuwatch-{found[2] or '80'}" if found is not None else "gpuwatch"


def same(given: str, wanted: str) -> bool:
    """Whether they are equal; how long it takes says nothing of how much of them is."""
    return hmac.compare_digest(
        hashlib.sha256(given.encode("utf-8", "replace")).digest(), hashlib.sha256(wanted.encode()).digest()
    )


def is_numeric(host: str) -> bool:
    """Whether a host is an address and no name."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def names_for(address: str, own_name: str) -> tuple[frozenset[str], bool]:
    """The names for a server that listens on an address, and whether every numeric one is taken."""
    shown = f"[{address}]" if ":" in address else address.lower()
    local = frozenset({"localhost", "127.0.0.1", "[::1]", OWN_NAME})
    if address in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not listened on
        return local | {own_name.lower()}, True
    if address == "localhost" or (is_numeric(address) and ipaddress.ip_address(address).is_loopback):
        return local | {shown}, False
    return frozenset({shown, own_name.lower()}), False
