"""A job that crawls because the card is full: a warning, and only then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import FailureCounted
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import GpuSample, LogChunk, LogRestarted, ServerSeen
from gpuwatch.core.snapshot import Snapshot

AT = datetime(2026, 11, 21, tzinfo=UTC)
GIB = 1 << 30
SERVER = "127.0.0.1:8188"


class World:
    def __init__(self, *, looked_at: bool = True) -> None:
        matcher = load_matcher()
        self.engine = Engine(matcher.rules, shows_records=looked_at, ready=matcher)
        self.snapshot = Snapshot()
        self.seconds = 0.0
        self.counted: list[str] = []

    def feed(self, observation: LogChunk | GpuSample | ServerSeen | LogRestarted) -> World:
        for event in self.engine.feed(observation):
            self.snapshot = self.snapshot.after(event)
            if isinstance(event, FailureCounted):
                self.counted += [event.label] * event.failures
        return self

    def card(self, used: float, total: float = 8) -> World:
        at = AT + timedelta(seconds=self.seconds)
        return self.feed(
            GpuSample(at, "GPU-1", 0, "card", total_bytes=round(total * GIB), used_bytes=round(used * GIB))
        )

    def bar(self, pace: str, steps: int = 20, first: int = 1, last: int = 8, *, fresh: bool = True) -> World:
        for step in range(first, last + 1):
            self.seconds += 1
            at = AT + timedelta(seconds=self.seconds)
            frame = f"\r {step * 100 // steps}%|x  | {step}/{steps} [00:01<00:09, {pace:>8}]"
            self.feed(LogChunk(at, SERVER, frame.encode(), "comfyui", fresh=fresh))
        return self

    @property
    def shown(self) -> list[Incident]:
        return list(self.snapshot.incidents.values())


@pytest.mark.parametrize("looked_at", [True, False])
def test_ten_times_the_usual_while_the_card_is_full_is_told_once_and_over_when_it_is(looked_at: bool) -> None:
    world = World(looked_at=looked_at).card(4).bar("2.00it/s").card(7.9).bar("12.40s/it", last=20)
    (only,) = world.shown
    assert (only.label, only.severity, only.state) == ("memory_spilled", "warning", "open")
    assert (only.facts["step_seconds"], only.facts["usual_seconds"]) == (12.4, 0.5)
    assert only.text == "12.4 s/it, 25 times the usual 0.5 s/it, with 7.9 of 8.0 GiB in use"
    assert only.diagnosis is not None
    assert [fix.action for fix in only.diagnosis.fixes] == ["shrink_size", "launch_flag"]
    assert world.counted == ["memory_spilled"]
    world.card(5).bar("2.10it/s")
    assert [each.state for each in world.shown] == ["cleared"]
    world.card(7.9).bar("9.00s/it")
    assert world.counted == ["memory_spilled"] * 2


def test_the_servers_word_stands_in_for_the_drivers() -> None:
    full = ServerSeen(AT, SERVER, "0.24.0", (), "cuda:0 card", 8 * GIB, GIB // 10)
    world = World().feed(ServerSeen(AT, SERVER, "0.24.0", (), "cuda:0 card", 8 * GIB, 4 * GIB)).bar("2.00it/s")
    world.feed(full).bar("12.40s/it")
    assert world.counted == ["memory_spilled"]
    world.feed(LogRestarted(AT, SERVER))
    assert [each.state for each in world.shown] == ["cleared"]


def quiet(world: World) -> bool:
    return not world.shown and not world.counted


def test_nothing_else_is_told() -> None:
    assert quiet(World().card(7.9).bar("12.40s/it", last=20)), "no pace to measure it by"
    assert quiet(World().card(4).bar("2.00it/s").bar("12.40s/it")), "the card has room"
    assert quiet(World().card(4).bar("2.00it/s").card(7.9).bar("3.00s/it")), "six times"
    assert quiet(World().card(4).bar("90.00it/s").card(7.9).bar("2.00it/s")), "half a second is nobody's trouble"
    assert quiet(World().card(4).bar("2.00it/s").card(7.9).bar("12.40s/it", steps=50)), "another bar"
    assert quiet(World().card(4).bar("2.00it/s").card(7.9).bar("12.40s/it", last=3)), "a bar's first frames"
    assert quiet(World().bar("2.00it/s").bar("12.40s/it")), "no word on the card"
    assert quiet(World().card(4).bar("2.00it/s").card(7.9).bar("12.40s/it", fresh=False)), "before we came"
    for odd in ("?it/s", "0.00it/s", "nan", "9" * 300 + "s/it"):
        assert quiet(World().card(4).bar("2.00it/s").card(7.9).bar(odd))


def test_it_is_bounded() -> None:
    world = World().card(4)
    for steps in range(10, 200):
        world.bar("2.00it/s", steps, 2, 3)
    assert len(world.engine._vigil._paces[SERVER]._usual) <= 32
