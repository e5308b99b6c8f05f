"""The prefilter loses nothing: every fast path finds what the slow way finds."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.matching.compiled import Patterns
from gpuwatch.core.matching.fragments import fragments_of
from gpuwatch.core.matching.healthy import RARE, rarity
from gpuwatch.core.matching.literals import required_literals
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.matching.nominate import TwoSteps, in_two_steps, nominator_of
from gpuwatch.core.matching.probes import Probe, probe_of
from gpuwatch.core.matching.scan import Hit
from gpuwatch.core.matching.scanners import AllAtOnce, OneByOne, PieceByPiece
from gpuwatch.core.matching.superset import superset_of
from gpuwatch.core.records import Cutter
from gpuwatch.core.rules import rule_set

RULES = load_rules()
MATCHER = Matcher(RULES)
HYPERSCAN = pytest.mark.skipif(importlib.util.find_spec("hyperscan") is None, reason="hyperscan has no wheel here")
RE2 = pytest.mark.skipif(importlib.util.find_spec("re2") is None, reason="google-re2 is not installed")
PATTERNS = [pattern for rule in RULES for pattern in rule.match]
COMPILED = {pattern: regex.compile(pattern) for rule in RULES for pattern in (*rule.match, *rule.unless)}
PROBES = [probe_of(pattern) for pattern in PATTERNS]
EXAMPLES = [example.log for rule in RULES for example in rule.matching_examples] + [
    log for rule in RULES for log in rule.ignored_examples
]
RECORDS = sorted({record.text for log in EXAMPLES for record in Cutter().feed(f"{log}\n".encode())})


def slowly(text: bytes) -> set[str]:
    """Every rule on the record, nothing skipped."""
    found = [
        rule
        for rule in RULES
        if any(COMPILED[p].search(text) for p in rule.match) and not any(COMPILED[p].search(text) for p in rule.unless)
    ]
    return {rule.id for rule in found if not any(other.beats(rule) for other in found)}


@pytest.mark.parametrize(
    ("pattern", "literals"),
    [
        (rb"CUDA out of memory\.", {b"CUDA out of memory."}),
        (rb"(?:first one|second)", {b"first one", b"second"}),
        (rb"abc?def", {b"abcdef", b"abdef"}),
        (rb"cuda[ _](?:runtime )?error", {b"cuda runtime error", b"cuda_runtime error", b"cuda error", b"cuda_error"}),
        (rb"ab\b(?=x)cd$", {b"abcd"}),
        (rb"one(?:two)+three", {b"twothree"}),
        (rb"[abcdef][abcdef][abcdef]", set()),
        (rb"(?:one|two|three).{3}four", {b"four"}),
        (rb"(?:abcd)?efgh", {b"efgh"}),
        (rb"(?:abcd)+", {b"abcd"}),
        (rb"\d+", set()),
        (rb"(?:one|\d)", set()),
        (rb"(?i)Mixed CASE", {b"Mixed CASE"}),
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


@pytest.mark.parametrize(
    ("pattern", "expression"),
    [
        (rb"^abc$", rb"\x61\x62\x63"),
        (rb"(?=x)ab(?<!y)", rb"\x61\x62"),
        (rb"a?bc*", rb"\x62"),
        (rb"(?i)ab", rb"(?i:\x61\x62)"),
        (rb"\d+a", rb"(?:[0-9]){1,1}\x61"),
        (rb"a.{0,300}b", rb"\x61(?:[^\n]){0,}\x62"),
        (rb"a?", None),
        (rb"\p{L}", None),
        (rb"(?:abc){e<=1}", None),
        (rb"[[:alpha:]]", None),
        (rb"(?-i:a)b", None),
    ],
)
def test_the_plainer_pattern_that_matches_wherever_one_does(pattern: bytes, expression: bytes | None) -> None:
    assert superset_of(pattern) == expression


SCANNERS = {
    "hyperscan": pytest.param(AllAtOnce, marks=HYPERSCAN),
    "re2": pytest.param(PieceByPiece, marks=RE2),
    "python": OneByOne,
}


@pytest.fixture(scope="module", params=SCANNERS.values(), ids=SCANNERS.keys())
def nominator(request: pytest.FixtureRequest) -> TwoSteps:
    return in_two_steps(request.param, PROBES)


def lines_of(hits: list[Hit], lines: bytes) -> dict[int, set[int]]:
    """By line, the probes that were found on it."""
    found: dict[int, set[int]] = {}
    for offset, number in hits:
        found.setdefault(lines.count(b"\n", 0, offset), set()).add(number)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(RECORDS), st.binary(max_size=60).filter(lambda b: b"\n" not in b)), max_size=12)
)
def test_whatever_matches_is_nominated(nominator: TwoSteps, texts: list[bytes]) -> None:
    lines = b"".join(text + b"\n" for text in texts)
    nominated = lines_of(nominator.hits(lines), lines)
    assert not nominator.blind
    for place, text in enumerate(texts):
        matched = {number for number, pattern in enumerate(PATTERNS) if COMPILED[pattern].search(text)}
        assert matched <= nominated.get(place, set()), text


def test_every_literal_holds_a_fragment_that_healthy_logs_do_not() -> None:
    literals = {
        literal for probe in PROBES for literal in probe.literals if rarity(literal) == RARE and len(literal) > 8
    }
    fragments = fragments_of(literals)
    assert len(fragments) < len(literals) / 2
    for literal in literals:
        assert any(fragment in literal.lower() for fragment in fragments), literal
    assert all(rarity(fragment) == RARE for fragment in fragments)


def test_a_literal_with_no_rare_fragment_stands_for_itself() -> None:
    assert fragments_of([b"got prompt", b"Xid ("]) == {b"got prompt", b"xid ("}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(RECORDS), min_size=1, max_size=4), st.integers(0, 40))
def test_looking_coarsely_first_finds_what_looking_closely_finds(
    nominator: TwoSteps, texts: list[bytes], far: int
) -> None:
    quiet = b"loaded completely; 9.0 MB usable, full load: True\n" * 42 * far
    lines = b"".join(quiet + text + b"\n" for text in texts) + quiet
    nominator._dense_bytes = 0
    coarsely = nominator.hits(lines)
    nominator._dense_bytes = len(lines)
    assert lines_of(coarsely, lines) == lines_of(nominator.hits(lines), lines)


def test_where_much_is_found_it_is_looked_for_closely_at_once(nominator: TwoSteps) -> None:
    nominator._dense_bytes = 0
    dense = b"CUDA error: an illegal memory access was encountered\n" * 200
    assert len(lines_of(nominator.hits(dense), dense)) == 200
    assert nominator._dense_bytes > 0


@HYPERSCAN
def test_what_hyperscan_refuses_is_looked_for_otherwise_or_tried_everywhere() -> None:
    probes = [Probe(frozenset(), b"(?:a){0,1}"), Probe(frozenset({b"lit"}), b"(?:a){0,1}"), probe_of(rb"\p{L}+")]
    made = AllAtOnce(probes)
    assert made.blind == {0, 2}
    assert made.hits(b"a\nLIT\n") == [(4, 1)]


@HYPERSCAN
def test_a_dumped_prefilter_finds_the_same() -> None:
    lines = b"\n".join(RECORDS)
    made = nominator_of(lambda: PROBES)
    loaded = nominator_of(lambda: pytest.fail("the probes are not needed again"), made.dump())
    assert loaded.hits(lines) == made.hits(lines)


@HYPERSCAN
def test_what_is_looked_for_to_be_faster_is_no_hit() -> None:
    many = AllAtOnce([Probe(frozenset({b"odd word %d." % number})) for number in range(100)])
    assert many.hits(b"\xfe\xfe\xfe odd word 7.\n\xfe\xfe\n") == [(14, 7)]


def test_patterns_that_were_kept_find_the_same() -> None:
    read = Patterns(Patterns().keep(PATTERNS))
    anew = Patterns()
    for pattern in PATTERNS:
        assert replace(read.ready(pattern), packed=b"") == anew.ready(pattern)
        assert read.ready(pattern).packed
        assert read.ready(pattern).pattern.pattern == pattern
    assert Matcher(RULES, MATCHER.dump()).matches(RECORDS) == MATCHER.matches(RECORDS)


@pytest.mark.parametrize("packed", [pickle.dumps(print), pickle.dumps(regex.compile(b"x"))[:-9], b"\x80\x05"])
def test_what_is_no_kept_pattern_is_made_anew(packed: bytes) -> None:
    ready = Patterns({b"wanted": ((), False, True, packed)}).ready(b"wanted")
    assert ready.pattern.pattern == b"wanted"


@HYPERSCAN
def test_a_damaged_dump_is_refused() -> None:
    made = nominator_of(lambda: PROBES[:3]).dump()
    assert made is not None
    for dumped in (b"", made[:5], made[:-9], b"\0" * 8 + made[8:], (3).to_bytes(8, "little") + b"[]\n[]\nno database"):
        with pytest.raises(ValueError, match=r"."):
            nominator_of(list, dumped)


@HYPERSCAN
def test_threads_may_look_at_once() -> None:
    made = AllAtOnce(PROBES)
    lines = b"\n".join(RECORDS)
    with ThreadPoolExecutor(4) as threads:
        assert len(set(map(tuple, threads.map(made.hits, [lines] * 16)))) == 1


@pytest.mark.parametrize("missing", [("hyperscan",), ("hyperscan", "re2")])
def test_without_the_libraries_the_rules_match_the_same(
    missing: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    slow = Matcher(RULES)
    assert slow.matches(RECORDS) == MATCHER.matches(RECORDS)


def test_a_pattern_that_nothing_stands_for_is_tried_on_every_record() -> None:
    strange = replace(RULES.by_id["cuda-oom-native"], id="strange", match=(rb"\p{Lu}\p{Ll}",), overrides=())
    matcher = Matcher(rule_set([strange]))
    assert not matcher.skips
    assert [rule.id for rule in matcher.matches([b"aa", b"Ab"])[1]] == ["strange"]
