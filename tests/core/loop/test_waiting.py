"""What waits on a server is known beside it when a restart takes it, and nothing that ended or was deleted comes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gpuwatch.core.loop.waiting import MOST, Waiting, WaitingJobs

AT = datetime(2026, 11, 21, 2, tzinfo=UTC)
SOON, LATER = AT + timedelta(seconds=5), AT + timedelta(minutes=5)


def jobs(*ids: str) -> list[Waiting]:
    return [Waiting(id_, {"1": {"class_type": id_}}, {}) for id_ in ids]


def lost(waiting: WaitingJobs) -> list[str]:
    return [job.id for job in waiting.lost]


def test_what_waited_is_lost_with_a_restart_and_what_ran_or_ended_is_not() -> None:
    waiting = WaitingJobs()
    assert waiting.turn(4, AT)
    waiting.see(jobs("a", "b", "c", "d"), {"a"}, AT)
    assert waiting.count == 3
    waiting.ended({"a"})
    waiting.ran("b")
    waiting.restarted(LATER)
    assert lost(waiting) == ["c", "d"]
    waiting.queued_again({"c"})
    assert lost(waiting) == ["d"]


def test_the_queue_is_read_only_where_it_holds_others_and_not_too_often() -> None:
    waiting = WaitingJobs()
    assert waiting.turn(2, AT)
    assert not waiting.turn(2, AT), "it is being read"
    waiting.see(jobs("a", "b"), {"a"}, AT)
    assert not waiting.turn(2, SOON)
    waiting.ended({"a"})
    assert not waiting.turn(1, SOON)
    assert waiting.turn(3, SOON)
    waiting.see(jobs("b"), (), SOON, total=3)
    assert not waiting.turn(3, LATER), "the others are another's"


def test_what_somebody_deleted_is_not_brought_back_by_a_later_restart() -> None:
    waiting = WaitingJobs()
    waiting.see(jobs("a", "b"), (), AT)
    waiting.see(jobs("b"), (), SOON)
    waiting.restarted(LATER)
    assert lost(waiting) == ["b"]


def test_an_empty_queue_read_from_the_new_process_forgets_nothing() -> None:
    waiting = WaitingJobs()
    waiting.see(jobs("a", "b"), {"a"}, AT)
    waiting.see([], (), SOON)
    waiting.restarted(SOON)
    assert lost(waiting) == ["b"]


def test_what_another_queued_again_is_lost_no_more() -> None:
    waiting = WaitingJobs()
    waiting.see(jobs("a", "b", "c"), (), AT)
    waiting.restarted(AT)
    waiting.see(jobs("b"), (), SOON)
    assert lost(waiting) == ["a", "c"]
    waiting.ended({"a"})
    assert lost(waiting) == ["c"]


def test_a_second_restart_adds_to_what_is_lost_and_all_is_bounded() -> None:
    waiting = WaitingJobs()
    waiting.see(jobs("a"), (), AT)
    waiting.restarted(AT)
    waiting.see(jobs("b"), (), SOON)
    waiting.restarted(SOON)
    assert lost(waiting) == ["a", "b"]
    waiting.see(jobs(*map(str, range(MOST + 10))), (), LATER)
    assert waiting.count == MOST
    waiting.restarted(LATER)
    assert len(waiting.lost) == MOST
    assert "opensecret" not in repr(Waiting("x", {}, {"key": "opensecret"}))
