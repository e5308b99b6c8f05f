"""Which card a failure was on: only where it is certain."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.core.cards import card_of, number_of
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import IncidentChanged
from gpuwatch.core.observations import GpuProcess, GpuSample, HostSample, LogChunk, ServerSeen

AT = datetime(2026, 11, 21, tzinfo=UTC)
GIB = 1 << 30
COMFYUI = GpuProcess(7, "python", GIB, "comfyui")


def card(index: int, name: str = "NVIDIA GeForce RTX 3060", total: float = 12, *processes: GpuProcess) -> GpuSample:
    return GpuSample(
        AT, f"GPU-{index}abc", index, name, total_bytes=round(total * GIB), used_bytes=GIB, processes=processes
    )


SAME = (card(0), card(1), card(2))
MIXED = (card(0, "NVIDIA GeForce GT 1030", 2), card(1, "NVIDIA GeForce RTX 4090", 24))


def server(*argv: str, **more: Any) -> ServerSeen:
    return ServerSeen(AT, "127.0.0.1:8188", "0.24.0", ("main.py", *argv), **{"local": True, **more})


@pytest.mark.parametrize(
    ("argv", "more", "index", "number"),
    [
        ((), {"visible_devices": ""}, 1, "1"),
        ((), {"visible_devices": "2,0"}, 0, "2"),
        ((), {"visible_devices": "2,0"}, 1, "0"),
        ((), {"visible_devices": "2"}, 1, None),
        ((), {}, 0, None),
        (("--cuda-device", "1"), {"visible_devices": "2"}, 0, "1"),
        (("--cuda-device=GPU-1a",), {}, 0, "GPU-1a"),
        (("--cuda-device",), {}, 0, None),
    ],
)
def test_torchs_number_is_the_drivers_by_what_the_process_may_see(
    argv: tuple[str, ...], more: dict[str, Any], index: int, number: str | None
) -> None:
    assert number_of(index, server(*argv, **more)) == number


@pytest.mark.parametrize(
    ("cards", "facts", "seen", "found"),
    [
        (SAME[:1], {}, None, 0),
        (SAME, {}, None, None),
        (SAME, {"gpu_index": 1}, server(), None),
        (SAME, {"gpu_index": 1}, server(visible_devices=""), 1),
        (SAME, {"gpu_index": 0}, server(visible_devices="2,1"), 2),
        (SAME, {}, server("--cuda-device", "1", device="cuda:0 NVIDIA GeForce RTX 3060 : native"), 1),
        (SAME, {}, server("--cuda-device", "GPU-2a"), 2),
        (SAME, {}, server("--cuda-device", "9"), None),
        (MIXED, {}, server(device="cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync"), 1),
        (MIXED, {"total_bytes": round(23.5 * GIB)}, None, 1),
        (MIXED, {"gpu_index": 0}, server(visible_devices=""), None),
        (MIXED, {"gpu_index": 0}, server(visible_devices="1", by_bus=True), 1),
        ((card(0), card(1, "NVIDIA GeForce RTX 3060", 12, COMFYUI)), {"gpu_index": 0}, None, 1),
        (MIXED[:1], {}, server(local=False), None),
        ((), {}, None, None),
    ],
)
def test_a_card_is_named_only_where_one_is_left(
    cards: tuple[GpuSample, ...], facts: dict[str, Any], seen: ServerSeen | None, found: int | None
) -> None:
    told = card_of(cards, facts, seen)
    assert (told.index if told is not None else None) == found


@pytest.mark.parametrize(("local", "used"), [(True, True), (None, True), (False, False)])
def test_another_machines_failure_is_not_explained_by_this_ones_card_and_memory(local: bool | None, used: bool) -> None:
    matcher = load_matcher()
    engine = Engine(matcher.rules, shows_records=False, ready=matcher)
    engine.feed(card(0))
    engine.feed(HostSample(AT, 32 * GIB, GIB, 0))
    engine.feed(replace(server(), local=local, at=AT + timedelta(seconds=1)))
    words = b"torch.OutOfMemoryError: Allocation on device \nPrompt executed in 0.1 seconds\n"
    events = engine.feed(LogChunk(AT, "127.0.0.1:8188", words, "comfyui"))
    (incident,) = {event.incident.id: event.incident for event in events if isinstance(event, IncidentChanged)}.values()
    assert incident.diagnosis is not None
    told = str(incident.diagnosis.cause) + " ".join(map(str, incident.diagnosis.evidence))
    assert ("1.00 GiB of 12.00 GiB" in told) is used
