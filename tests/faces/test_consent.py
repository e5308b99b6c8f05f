"""A plan is agreed to only once all of it was in view, and for a moment."""

from __future__ import annotations

from gpuwatch.faces.tui.consent import LOOK_SECONDS, Consent, Question

PLAN, OTHER = object(), object()


def test_a_plan_that_was_seen_for_a_moment_may_be_agreed_to() -> None:
    consent = Consent()
    assert consent.ask(PLAN, 10.0)
    assert not consent.ask(PLAN, 10.1), "it stands there already"
    assert not consent.see(end=8, bottom=12)
    assert consent.question(PLAN, 10.0 + LOOK_SECONDS / 2) == Question(0, ready=False)
    assert consent.question(PLAN, 10.0 + LOOK_SECONDS) == Question(0, ready=True)
    assert consent.question(OTHER, 99.0) == Question(0, ready=False), "another plan was not seen"
    assert consent.question(None, 99.0) == Question(0, ready=False)


def test_what_is_below_the_edge_is_counted_until_it_was_in_view() -> None:
    consent = Consent()
    consent.ask(PLAN, 0.0)
    assert consent.see(end=20, bottom=12)
    assert consent.question(PLAN, 99.0) == Question(8, ready=False)
    assert consent.see(end=20, bottom=20)
    assert not consent.see(end=20, bottom=12), "what was seen stays seen"
    assert consent.question(PLAN, 99.0) == Question(0, ready=True)


def test_another_plan_begins_anew() -> None:
    consent = Consent()
    consent.ask(PLAN, 0.0)
    consent.see(end=20, bottom=20)
    assert not consent.ask(None, 1.0)
    assert consent.ask(PLAN, 2.0), "asked again, it is looked at again"
    assert consent.question(PLAN, 2.1) == Question(0, ready=False)
