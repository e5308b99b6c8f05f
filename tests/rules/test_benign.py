"""Nothing is cried over a healthy log, and the prefilter does not stop at it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.rules import SEVERITIES
from tests.rules.corpus import incidents_of

BENIGN = Path(__file__).parents[1] / "data" / "benign"
RULES = load_rules()
DECOYS = (BENIGN / "decoys.log").read_text("utf-8").splitlines()
MIB = 1 << 20


def above_info(log: str) -> list[tuple[str, str]]:
    found = incidents_of(log, RULES)
    return [(incident.rule.id, incident.text) for incident in found if SEVERITIES.index(incident.severity) > 0]


@pytest.mark.parametrize("place", range(0, len(DECOYS), 25))
def test_a_line_that_only_speaks_of_a_failure_is_none(place: int) -> None:
    for line in DECOYS[place : place + 25]:
        assert not above_info(line), line


@pytest.mark.parametrize("path", sorted(BENIGN.glob("*.log")), ids=lambda path: path.stem)
def test_a_healthy_log_tells_nothing(path: Path) -> None:
    log = path.read_text("utf-8")
    assert not above_info(log)
    assert not above_info(log.replace("\n", "\r\n"))
    assert not above_info("".join(f"2026-01-01T12:00:00.123456 - {line}\n" for line in log.splitlines()))


def test_a_failure_that_the_program_dealt_with_is_told_as_that_alone() -> None:
    log = (
        "[WARNING] Warning: Ran out of memory when regular VAE decoding, retrying with tiled VAE decoding.\n"
        "[INFO] Prompt executed in 31.20 seconds\n"
    )
    assert {(i.label, i.severity) for i in incidents_of(log, RULES)} == {("oom_recovered", "warning")}


@pytest.mark.skipif(importlib.util.find_spec("hyperscan") is None, reason="literals alone nominate more")
def test_the_prefilter_stops_at_fewer_than_three_lines_in_a_mebibyte_of_healthy_log() -> None:
    healthy = (BENIGN / "healthy.log").read_bytes()
    log = healthy * (MIB // len(healthy) + 1)
    matcher = Matcher(RULES)
    nominated = [
        candidates for hit in matcher.scan(log, 0, len(log)).hits if (candidates := matcher.candidates([hit])).rules
    ]
    assert len(nominated) < 3, [each.rule.id for some in nominated[:3] for each, _ in some.rules]
