"""Which processes hold memory on AMD and Intel cards: what the kernel says beside each open file of a card.

The kernel documents it as DRM client usage stats: `/proc/PID/fdinfo/FD` with `drm-pdev`, `drm-client-id` and the memory by
region. A client that is open more than once counts once. Only processes that this user may look into are seen. **Untested on
hardware**, as `drm.py` is.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

PROC = Path("/proc")
_DEVICES = "/dev/dri/"
_MOST_PROCESSES, _MOST_FILES, _MOST_BYTES = 4096, 4096, 16384
_LOOK_AGAIN_SECONDS = 10.0
_FIELD = re.compile(r"^drm-([a-z]+)-((?:vram|local)\d*):\s*(\d{1,18})(?: (KiB|MiB))?\s*$", re.MULTILINE)
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20}
_KINDS = ("resident", "memory", "total")
"""What a client holds on the card now; what older kernels call so; what it has asked for."""
_CARD = re.compile(r"^drm-pdev:\s*(\S{1,40})\s*$", re.MULTILINE)
_CLIENT = re.compile(r"^drm-client-id:\s*(\d{1,18})\s*$", re.MULTILINE)


class Clients:
    """Looks through the processes; those that have no card open are left alone for a while."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._holders: set[int] = set()
        self._looked_at = -_LOOK_AGAIN_SECONDS

    def held(self) -> dict[str, dict[int, int]]:
        """By the card's place on the PCI bus, what each process holds on it, in bytes."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_AGAIN_SECONDS:
            self._looked_at = now
            pids = [int(name) for name in _names(self._proc) if name.isascii() and name.isdigit()][:_MOST_PROCESSES]
        else:
            pids = sorted(self._holders)
        held: dict[str, dict[int, int]] = {}
        self._holders = set()
        for pid in pids:
            for card, count in self._of_process(pid).items():
                self._holders.add(pid)
                held.setdefault(card, {})[pid] = count
        return held

    def _of_process(self, pid: int) -> Mapping[str, int]:
        """What it holds on each card."""
        folder = self._proc / str(pid)
        clients: dict[tuple[str, str], int] = {}
        for name in _names(folder / "fd")[:_MOST_FILES]:
            try:
                if not os.readlink(folder / "fd" / name).startswith(_DEVICES):  # noqa: PTH115 - a link's words, not a path
                    continue
                with (folder / "fdinfo" / name).open("rb") as file:
                    told = file.read(_MOST_BYTES).decode("ascii", "replace")
            except OSError:
                continue  # it was closed meanwhile, or is not ours to see
            card, client = _CARD.search(told), _CLIENT.search(told)
            if card is not None and client is not None and (count := memory_of(told)) is not None:
                clients[card[1], client[1]] = count
        held: dict[str, int] = {}
        for (address, _client), count in clients.items():
            held[address] = held.get(address, 0) + count
        return held


def memory_of(told: str) -> int | None:
    """The card's memory that one client holds; None where its driver does not say."""
    by_kind: dict[str, int] = {}
    for kind, _region, number, unit in _FIELD.findall(told):
        by_kind[kind] = by_kind.get(kind, 0) + int(number) * _UNITS[unit]
    return next((by_kind[kind] for kind in _KINDS if kind in by_kind), None)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - the names are enough
    except OSError:
        return []
