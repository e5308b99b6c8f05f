"""Which patterns are refused: over bytes not what they seem, or too costly; every shipped one is taken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwatch.adapters.rule_patterns import LARGEST_STEPS, complaint, slowness
from gpuwatch.adapters.rulebook import read_rules
from gpuwatch.shipped import shipped_folder


@pytest.mark.parametrize(
    "pattern",
    [r"\[错误\]", r"(?:显|存)+", r"[^]\]]x{3}", r"(?:显存){2}", rf"a{{{LARGEST_STEPS}}}", r"(?#no)x{2,}y"],
)
def test_a_harmless_pattern_is_taken(pattern: str) -> None:
    assert complaint(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [
        r"[\d显]", rf"a{{{LARGEST_STEPS + 1}}}", r"(?:(?:(?:xy){500}z){500}w){500}", "x" * 5000, r"(?u)x", r"\L<names>x",
        "(" * 3000 + ")" * 500, r"x|(?1)", r"(?P<a>x|(?&a))", r"a{4000000000}", r"a{99999999999999}", r"[a", "x\\",
    ],
)  # fmt: skip
def test_a_harmful_pattern_is_refused(pattern: str) -> None:
    assert complaint(pattern) is not None


@pytest.mark.parametrize(
    ("pattern", "sample"),
    [
        (rb"(?:a|a)+b", b"b"),
        (rb"(?:\w+)+$x", b"x "),
        (rb"(?:[\d.]+\s*)+;", b"; 1.5"),
        (rb"(?:0+)+=", b"= 1"),
    ],
)
def test_a_catastrophe_is_told_before_it_happens(pattern: bytes, sample: bytes) -> None:
    assert slowness(pattern, [sample]) is not None


def test_no_shipped_pattern_is_a_catastrophe_on_long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuwatch.adapters.rule_patterns.PATTERN_TIMEOUT_SECONDS", 5.0)  # the machine may be busy
    assert read_rules(shipped_folder("rules")).slow() == []


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab显\\[]^(){}|*+?.:<>=!PRL&#-,0159dxi "), max_size=30))
def test_any_pattern_is_taken_or_told(pattern: str) -> None:
    complaint(pattern)
