"""Columns of spans: their order, their own times, what they cover together."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuwatch.core.traces import spans as module
from gpuwatch.core.traces.spans import OTHERS, Lane, Names, Totals, around, nest, united

Span = tuple[int, int]
SPANS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), max_size=60)


def lane_of(spans: list[Span]) -> Lane:
    lane = Lane()
    for start, length in spans:
        lane.add(start, length)
    return lane


@given(SPANS)
def test_united_counts_each_moment_once_and_gaps_fill_the_rest(spans: list[Span]) -> None:
    begin, end = 20, 180
    busy = united(lane_of(spans), begin, end, most_gaps=1000)
    moments = {moment for start, length in spans for moment in range(max(start, begin), min(start + length, end))}
    assert busy.nanoseconds == len(moments)
    idle = {moment for start, length in busy.gaps for moment in range(start, start + length)}
    assert idle == set(range(begin, end)) - moments
    assert sorted((length for _start, length in busy.gaps), reverse=True) == [length for _start, length in busy.gaps]


def nested_spans(randomness: random.Random, begin: int, end: int, depth: int = 0) -> list[tuple[int, int, int]]:
    """A tree of spans: start, length, number of the name."""
    spans = []
    at = begin
    while at < end and depth < 5:
        length = randomness.randint(1, end - at)
        if randomness.random() < 0.7:
            spans.append((at, length, randomness.randrange(6)))
            spans += nested_spans(randomness, at, at + length, depth + 1)
        at += length
    return spans


def test_own_times_add_up_to_what_is_covered_in_whatever_order_they_come() -> None:
    randomness = random.Random(7)  # noqa: S311 - the same each time
    for _round in range(30):
        spans = nested_spans(randomness, 0, 2000)
        names = Names()
        for number in range(6):
            assert names.number("cpu_op", f"name {number}") == number
        results = []
        for order in (spans, randomness.sample(spans, len(spans))):
            lane, outermost, totals = Lane(), Lane(), Totals()
            for start, length, name in order:
                lane.add(start, length, name)
            nest(lane, names, totals, outermost, "cpu_op")
            assert sum(totals.owns) == united(lane, 0, 2000).nanoseconds == united(outermost, 0, 2000).nanoseconds
            assert sum(totals.counts) == len(spans)
            results.append((totals.counts, totals.lengths, sum(totals.owns)))
        assert results[0] == results[1]


def test_a_child_s_time_is_taken_from_its_parent_only() -> None:
    names = Names()
    parent, child, grandchild = (names.number("cpu_op", name) for name in ("parent", "child", "grandchild"))
    lane, outermost, totals = Lane(), Lane(), Totals()
    for start, length, name in ((0, 100, parent), (10, 50, child), (20, 30, grandchild), (70, 40, child)):
        lane.add(start, length, name)
    nest(lane, names, totals, outermost, "cpu_op")
    # the last child reaches 10 beyond its parent's end: there it counts for itself alone
    assert totals.owns == [100 - 50 - 30, 50 - 30 + 40, 30]
    assert totals.longest == [100, 50, 30]
    assert list(outermost.starts) == [0]


def test_large_unordered_lanes_are_sorted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    randomness = random.Random(3)  # noqa: S311 - the same each time
    spans = [(randomness.randrange(1000), randomness.randrange(20)) for _ in range(5000)]
    monkeypatch.setattr(module, "_BLOCK", 64)
    lane = lane_of(spans)
    assert not lane.ordered
    placed = [(lane.starts[i], -lane.lengths[i]) for i in lane.order()]
    assert placed == sorted((start, -length) for start, length in spans)


def test_around_names_what_is_open_at_a_time() -> None:
    lane = Lane()
    for start, length, name in ((0, 100, 1), (10, 20, 2), (12, 5, 3), (50, 10, 4)):
        lane.add(start, length, name)
    assert list(around(lane, [5, 13, 25, 40, 55, 200])) == [[1], [1, 2, 3], [1, 2], [1], [1, 4], []]


def test_names_are_bounded() -> None:
    names = Names(most=3, longest_characters=5)
    assert names.number("kernel", "first kernel") == names.number("kernel", "first set")
    assert names.names[0] == "first"
    names.number("kernel", "b")
    names.number("kernel", "c")
    beyond = names.number("kernel", "d")
    assert beyond == names.number("kernel", "e") != names.number("cpu_op", "f")
    assert names.names[beyond] == OTHERS
