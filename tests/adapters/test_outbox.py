"""Notices on their way: tried again, bounded, never in the way, and counted whatever becomes of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from gpuwatch.adapters.outbox import Outbox, Pace
from gpuwatch.adapters.webhook import Carrier, Verdict, target_of
from gpuwatch.core.notices import Notice
from gpuwatch.faces.notice_shapes import OWN
from gpuwatch.texts import Text, render
from tests.adapters.receiver import SECONDS, Hook, hook
from tests.adapters.test_webhook import NOTICE

QUICK = Pace(0.001, 0.002)


@contextmanager
def outbox(there: Hook, pace: Pace = QUICK, **more: Any) -> Iterator[tuple[Outbox, list[str]]]:
    said: list[str] = []

    def say(words: Text) -> None:
        said.append(render(words, "en"))

    box = Outbox(Carrier(target_of(there.address + "/SECRET"), OWN), say, pace=pace, **more)
    try:
        yield box, said
    finally:
        box.close()
        assert not [words for words in said if "SECRET" in words]


def notice(number: int) -> Notice:
    return replace(NOTICE, id=f"n{number}")


def ids(there: Hook) -> list[str]:
    return [got.headers["webhook-id"] for got in there.got]


def test_notices_arrive_in_order_and_are_counted() -> None:
    with hook() as there, outbox(there) as (box, said):
        for number in range(20):
            box.post(notice(number))
        assert box.settle(SECONDS)
        assert box.counts == {"delivered": 20}
    assert ids(there) == [f"n{number}" for number in range(20)]
    assert said == []


def test_what_fails_is_tried_again_under_the_same_id_and_told_once() -> None:
    answers = [(500, {}, b""), (502, {}, b""), (429, {"Retry-After": "0"}, b"")]
    with hook(answers=answers) as there, outbox(there) as (box, said):
        box.post(notice(1))
        box.post(notice(2))
        assert box.settle(SECONDS)
        assert box.counts == {"delivered": 2}
    assert ids(there) == ["n1"] * 4 + ["n2"]
    assert len(said) == 2
    assert "tried again" in said[0]
    assert "again" in said[1]


def test_what_is_refused_is_not_tried_again() -> None:
    with hook(answers=[(403, {}, b"no")]) as there, outbox(there) as (box, said):
        box.post(notice(1))
        box.post(notice(2))
        assert box.settle(SECONDS)
        assert box.counts == {"refused": 1, "delivered": 1}
    assert ids(there) == ["n1", "n2"]
    assert "HTTP 403: no" in said[0]


def test_an_hour_of_errors_ends_with_the_notice_given_up() -> None:
    with hook(always=(500, {}, b"")) as there, outbox(there, Pace(0.001, 0.002, most_age_seconds=0.0)) as (box, _said):
        box.post(notice(1))
        assert box.settle(SECONDS)
        assert box.counts == {"failed": 1}


def test_what_does_not_fit_pushes_out_the_oldest_and_nobody_waits() -> None:
    with hook(hold=threading.Event()) as there, outbox(there, most_waiting=3) as (box, said):
        box.post(notice(0))
        there.wait(1)
        for number in range(1, 1001):
            box.post(notice(number))
        assert box.full
        assert box.counts == {"dropped": 998}
        assert there.hold is not None
        there.hold.set()
        assert box.settle(SECONDS)
    assert ids(there) == ["n0", "n998", "n999", "n1000"]
    assert said == []


def test_closing_loses_what_cannot_be_delivered_and_says_so() -> None:
    with hook(hold=threading.Event()) as there, outbox(there) as (box, said):
        for number in range(3):
            box.post(notice(number))
        there.wait(1)
        box.close(grace_seconds=0.01)
        assert box.counts == {"dropped": 3}
        box.post(notice(9))
        assert box.counts == {"dropped": 4}
    assert [words for words in said if words.endswith(": 3.")]


def test_closing_cuts_a_long_wait_short_and_tries_once_more() -> None:
    with hook(answers=[(503, {"Retry-After": "900"}, b"")]) as there, outbox(there) as (box, said):
        box.post(notice(1))
        there.wait(1)
        box.close(SECONDS)
        assert box.counts == {"delivered": 1}
    assert ids(there) == ["n1", "n1"]
    assert said[-1].endswith("again.")


def test_a_fault_with_one_notice_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    carry = Carrier.carry

    def broken(self: Carrier, told: Notice, at: Any) -> Verdict:
        if told.id == "n1":
            raise RuntimeError("SECRET")
        return carry(self, told, at)

    monkeypatch.setattr(Carrier, "carry", broken)
    with hook() as there, outbox(there) as (box, said):
        box.post(notice(1))
        box.post(notice(2))
        assert box.settle(SECONDS)
        assert box.counts == {"refused": 1, "delivered": 1}
    assert "RuntimeError" in said[0]


def test_waits_grow_to_a_limit_and_differ() -> None:
    pace = Pace(1.0, 60.0)
    assert [pace.wait_seconds(tries, 0.0) for tries in (1, 2, 3, 7, 1000)] == [1.0, 2.0, 4.0, 60.0, 60.0]
    assert pace.wait_seconds(3, 1.0) == 2.0
