"""The prefilter loses nothing: every fast path finds what the slow way finds."""

from __future__ import annotations

import importlib.util
import sys

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.matching.literals import required_literals
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.matching.nominate import AllAtOnce, OneByOne
from gpuwatch.core.records import Cutter

RULES = load_rules()
MATCHER = Matcher(RULES)
HYPERSCAN = pytest.mark.skipif(importlib.util.find_spec("hyperscan") is None, reason="hyperscan has no wheel here")
EXAMPLES = [example.log for rule in RULES for example in rule.matching_examples] + [
    log for rule in RULES for log in rule.ignored_examples
]
RECORDS = sorted({record.text for log in EXAMPLES for record in Cutter().feed(f"{log}\n".encode())})


def slowly(text: bytes) -> set[str]:
    """Every rule on the record, nothing skipped."""
    found = [
        rule
        for rule in RULES
        if any(regex.search(p, text) for p in rule.match) and not any(regex.search(p, text) for p in rule.unless)
    ]
    return {rule.id for rule in found if not any(other.beats(rule) for other in found)}


@pytest.mark.parametrize(
    ("pattern", "literals"),
    [
        (rb"CUDA out of memory\.", {b"cuda out of memory."}),
        (rb"(?:first one|second)", {b"first one", b"second"}),
        (rb"abc?def", {b"def"}),
        (rb"(?:abcd)?efgh", {b"efgh"}),
        (rb"(?:abcd)+", {b"abcd"}),
        (rb"\d+", set()),
        (rb"(?:one|\d)", set()),
        (rb"(?i)Mixed CASE", {b"mixed case"}),
        (rb"(?<=look)behind", {b"behind"}),
        (rb"(?!not this)wanted", {b"wanted"}),
    ],
)
def test_literals_that_every_match_holds(pattern: bytes, literals: set[bytes]) -> None:
    assert required_literals(pattern) == literals


@pytest.mark.parametrize("rule", list(RULES), ids=lambda rule: rule.id)
def test_every_shipped_pattern_has_a_literal(rule: object) -> None:
    for pattern in rule.match:  # type: ignore[attr-defined]  # parametrized
        assert required_literals(pattern), pattern


def test_the_examples_are_matched_as_the_slow_way_matches_them() -> None:
    fast = MATCHER.matches(RECORDS)
    for place, text in enumerate(RECORDS):
        assert {rule.id for rule in fast.get(place, ())} == slowly(text), text


@HYPERSCAN
@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(RECORDS), st.binary(max_size=60).filter(lambda b: b"\n" not in b)), max_size=12)
)
def test_both_prefilters_nominate_the_same(texts: list[bytes]) -> None:
    literals = sorted({literal for rule in RULES for p in rule.match for literal in required_literals(p)})
    assert AllAtOnce(literals).nominate(texts) == OneByOne(literals).nominate(texts)


def test_without_hyperscan_the_rules_match_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hyperscan", None)
    slow = Matcher(RULES)
    assert slow.matches(RECORDS) == MATCHER.matches(RECORDS)
