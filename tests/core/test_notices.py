"""Which failures and outcomes become notices: each once, none that is muted, not too many."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gpuwatch.core.events import Event, FailureCounted, IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.mutes import Mute
from gpuwatch.core.notices import BURST, EVERY, Bucket, Limit, Notice, Teller
from gpuwatch.core.observations import FixTried, Tick
from gpuwatch.texts import render
from tests.core.cases import AT, incident

SECOND = timedelta(seconds=1)


def failed(id_: str = "one", rule: str = "cuda-oom-native", **more: Any) -> Incident:
    return replace(incident({}, rule), id=id_, **more)


def counted(told: Incident, at: Any = AT, **more: Any) -> FailureCounted:
    return FailureCounted(at, told.id, told.label, told.severity, 1, **{"fresh": True, "muted": told.muted} | more)


def opening(told: Incident, at: Any = AT, **more: Any) -> list[Event]:
    return [IncidentChanged(at, told), counted(told, at, **more)]


def hear(teller: Teller, *events: Event) -> list[Notice]:
    known: dict[str, Incident] = {}
    for event in events:
        if isinstance(event, IncidentChanged):
            known[event.incident.id] = event.incident
    return teller.hear(events, known)


def names(notices: list[Notice]) -> list[str]:
    return [notice.event for notice in notices]


def test_a_failure_is_told_once_and_its_end_once() -> None:
    teller, one = Teller(), failed()
    (opened,) = hear(teller, *opening(one))
    assert (opened.event, opened.key, opened.severity, opened.incident) == ("opened", "one", "error", one)
    assert hear(teller, *opening(replace(one, count=2))) == []
    over = replace(one, state="cleared")
    (resolved,) = hear(teller, IncidentChanged(AT, over))
    assert (resolved.event, resolved.key, resolved.severity) == ("resolved", "one", "info")
    assert resolved.id != opened.id
    assert hear(teller, IncidentChanged(AT, over)) == []


def test_what_is_over_when_it_is_counted_is_told_with_its_end() -> None:
    assert names(hear(Teller(), *opening(failed(state="recovered")))) == ["opened", "resolved"]


def test_an_incident_that_is_no_longer_known_is_found_among_the_events() -> None:
    assert names(Teller().hear(opening(failed()), {})) == ["opened"]
    assert Teller().hear([counted(failed())], {}) == []


@pytest.mark.parametrize(
    ("told", "more"),
    [
        (failed(mute=Mute(label="cuda_oom")), {}),
        (failed(), {"muted": True}),
        (failed(), {"fresh": False}),
    ],
)
def test_what_is_muted_or_old_is_never_told(told: Incident, more: dict[str, Any]) -> None:
    teller = Teller()
    assert hear(teller, *opening(told, **more)) == []
    assert hear(teller, IncidentChanged(AT, replace(told, state="cleared"))) == []


def test_a_floor_keeps_the_lesser_ones_quiet_but_never_a_dead_worker() -> None:
    teller, one = Teller("critical"), failed()
    assert hear(teller, *opening(one)) == []
    dead = replace(one, worker_dead=True)
    (told,) = hear(teller, IncidentChanged(AT, dead))
    assert (told.event, told.severity, told.key) == ("worker_dead", "critical", "one")
    assert hear(teller, IncidentChanged(AT, dead)) == []
    assert names(hear(teller, IncidentChanged(AT, replace(dead, state="cleared")))) == ["resolved"]
    assert names(hear(Teller("critical"), *opening(failed(worker_dead=True)))) == ["opened"]
    assert names(hear(Teller("warning"), *opening(one))) == ["opened"]


def test_a_worker_that_dies_later_is_told_beside_its_failure() -> None:
    teller, one = Teller(), failed()
    hear(teller, *opening(one))
    assert names(hear(teller, IncidentChanged(AT, replace(one, worker_dead=True)))) == ["worker_dead"]


def tried(outcome: Any, incident_id: str = "one", job: str | None = "job") -> FixTried:
    return FixTried(AT, incident_id, "shrink_size", outcome, "127.0.0.1:8188", job_id=job)


def test_what_became_of_a_fix_is_told_once() -> None:
    teller, one = Teller(), failed()
    hear(teller, *opening(one))
    known = {"one": one}
    assert teller.hear([tried("applied")], known) == []
    (failed_one,) = teller.hear([tried("failed")], known)
    assert (failed_one.event, failed_one.severity, failed_one.key) == ("fix_failed", "error", "one")
    assert teller.hear([tried("failed")], known) == []
    (held,) = teller.hear([tried("held", job="other")], known)
    assert (held.event, held.severity) == ("fix_held", "info")
    assert teller.hear([tried("held")], {"one": failed(mute=Mute(label="cuda_oom"))}) == []
    assert names(teller.hear([tried("held", "", "third")], {})) == ["fix_held"]


def test_an_id_may_stand_in_a_header_whatever_a_job_is_called() -> None:
    told = [
        *Teller().hear([tried("held", "", "a\r\nHost: evil 显存 \ud800")], {}),
        *Teller().give_up(AT, "x" * 5000, "box", failed().title, None),
    ]
    assert len({notice.id for notice in told}) == 2
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,100}", notice.id) for notice in told)


def test_two_machines_whose_logs_fail_alike_tell_two_things() -> None:
    (told,) = hear(Teller(), *opening(failed()))
    one, two = told.sent_from("box-a"), told.sent_from("box-b")
    assert (one.host, one.key) == ("box-a", two.key)
    assert len({told.id, one.id, two.id}) == 3
    assert one.id == told.sent_from("box-a").id


def test_giving_up_is_told() -> None:
    (told,) = Teller().give_up(AT, "job", "127.0.0.1:8188", failed().title, failed())
    assert (told.event, told.key, told.source) == ("gave_up", "one", "127.0.0.1:8188")


def test_a_bucket_lets_through_so_many_and_then_one_at_a_time() -> None:
    bucket = Bucket(2, SECOND)
    assert [bucket.take(AT) for _ in range(3)] == [True, True, False]
    assert not bucket.take(AT - 10 * SECOND)
    assert not bucket.take(AT + SECOND / 2)
    assert [bucket.take(AT + SECOND), bucket.take(AT + SECOND)] == [True, False]
    assert [bucket.take(AT + 99 * SECOND) for _ in range(3)] == [True, True, False]


def test_ten_thousand_failures_in_a_minute_are_a_few_notices_and_the_number_of_the_rest() -> None:
    teller = Teller()
    told: list[Notice] = []
    for number in range(10_000):
        at = AT + timedelta(milliseconds=6 * number)
        told += hear(teller, *opening(failed(str(number)), at), Tick(at))
    told += teller.limit.rest(AT + timedelta(minutes=1))
    assert len(told) <= BURST + timedelta(minutes=1) / EVERY + 1
    opened, held = [n for n in told if n.event == "opened"], [n for n in told if n.event == "held_back"]
    assert len(opened) + sum(sum(n.held_back.values()) for n in held) == 10_000
    assert teller.limit.held_total == 10_000 - len(opened)
    assert held[0].held_back.keys() == {"cuda_oom"}
    assert str(sum(held[0].held_back.values())) in render(held[0].title, "en")
    assert len({n.id for n in told}) == len(told)


def test_the_end_of_a_failure_that_was_held_back_is_not_told_and_that_of_a_told_one_always_is() -> None:
    teller = Teller(limit=Limit(Bucket(1)))
    hear(teller, *opening(failed("told")), *opening(failed("held")))
    ends = [IncidentChanged(AT, failed(name, state="cleared")) for name in ("told", "held")]
    assert [(n.event, n.key) for n in hear(teller, *ends)] == [("resolved", "told")]


def test_time_alone_brings_the_number_of_those_held_back() -> None:
    teller = Teller(limit=Limit(Bucket(1)))
    hear(teller, *opening(failed("a")), *opening(failed("b")))
    assert hear(teller, Tick(AT + SECOND)) == []
    assert names(hear(teller, Tick(AT + EVERY))) == ["held_back"]
    assert hear(teller, Tick(AT + 9 * EVERY)) == []
    assert teller.limit.rest(AT) == []
