"""What is remembered of a line holds for the next one that differs in its digits alone, and for no other."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import regex

from gpuwatch.core.matching import alike, matcher
from gpuwatch.core.matching.alike import takes_digits_alike
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.records import LONGEST_RECORD_BYTES
from gpuwatch.core.rules import convert_fact, rule_set
from tests.core.test_matching import MATCHER, RECORDS, RULES, slowly

CHOSEN = Random(5).sample(RECORDS, 80)  # noqa: S311 - the same ones on every run
XID = replace(RULES.by_id["cuda-oom-native"], id="seven", match=(rb"code \d+7",), unless=(), overrides=(), facts=())


@pytest.mark.parametrize(
    ("pattern", "same"),
    [
        (rb"\d+ of [\d.]{1,12} ?(?:[KM]iB)", True),
        (rb"(?i)^\W{0,3}[^x\n]*(?<=a)b(?!\d)$", True),
        (rb"[0-9A-F]{4}|(?>\w+)|.", True),
        (rb"mat1", False),
        (rb"code [^5]", False),
        (rb"[1-9]\d*", False),
        (rb"(?:a|b(?:c|d2))", False),
        (rb"(\d)\1", False),
        (rb"\p{Nd}", False),
    ],
)
def test_which_patterns_take_digits_alike(pattern: bytes, same: bool) -> None:
    assert takes_digits_alike(pattern) is same


def test_most_shipped_patterns_take_digits_alike() -> None:
    patterns = [pattern for rule in RULES for pattern in (*rule.match, *rule.unless)]
    assert sum(map(takes_digits_alike, patterns)) > 0.6 * len(patterns)


def test_the_examples_with_other_numbers_are_matched_as_the_slow_way_matches_them() -> None:
    random = Random(7)  # noqa: S311 - the same numbers on every run
    for text in CHOSEN:
        other = bytes(random.choice(b"0123456789") if 48 <= byte < 58 else byte for byte in text)
        for record in (text, other, text):
            found = MATCHER.matches([record]).get(0, ())
            assert {rule.id for rule in found} == slowly(record), record
            for rule in found:
                assert list(MATCHER.facts(rule, record)) == [
                    (name, value)
                    for pattern in rule.facts
                    for match in regex.finditer(pattern, record)
                    for name, raw in match.groupdict().items()
                    if raw is not None and (value := convert_fact(name, raw)) is not None
                ]


def test_a_digit_that_a_pattern_names_tells_lines_apart() -> None:
    made = Matcher(rule_set([XID]))
    assert [bool(made.matches([text])) for text in (b"code 17", b"code 16", b"code 27", b"code 17")] == [
        True, False, True, True,
    ]  # fmt: skip


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matcher, "_MOST_DECIDED", 8)
    monkeypatch.setattr(matcher, "_MOST_CANDIDATES", 8)
    made = Matcher(RULES)
    for number in range(12):
        for text in CHOSEN[:40]:
            made.matches([text + b" x" * number])
    assert len(made._decided) == len(made._candidates) == 8
    assert all(len(text) < alike.LONGEST_BYTES for _, text in made._decided)
    made.matches([b"CUDA out of memory".ljust(LONGEST_RECORD_BYTES)])
    assert all(len(text) < alike.LONGEST_BYTES for _, text in made._decided)


def test_nothing_is_remembered_of_a_line_that_took_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Matcher(rule_set([replace(XID, match=(rb"code (?:a|aa)+$",))]))
    monkeypatch.setattr(matcher, "PATTERN_TIMEOUT_SECONDS", 0.001)
    for strikes in (1, 2, 3):
        assert not made.matches([b"code " + b"a" * 60 + b"!"])
        assert len(made.quarantined) == (strikes == 3)
        assert not made._decided
    assert not made.matches([b"code a"])
