"""Whether a server still computes, told from its incidents."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gpuwatch.core.incidents import Incident
from gpuwatch.core.loop.broken import BREAKING, breakage, only_a_restart_helps
from gpuwatch.core.rules import LABELS, Rule, RuleFix
from gpuwatch.texts import Text

AT = datetime(2026, 1, 1, tzinfo=UTC)
SERVER = "127.0.0.1:8188"


def incident(label: str, *fixes: str, source: str = SERVER) -> Incident:
    rule = Rule(
        id="r",
        label=label,  # type: ignore[arg-type]  # one of the labels
        title=Text("It failed"),
        severity="error",
        why=Text("Why."),
        match=(b"x",),
        fixes=tuple(RuleFix(action) for action in fixes),
    )
    return Incident("i", source, rule, rule.label, "open", 1, "x", AT, AT)


def test_the_labels_that_break_a_server_are_labels() -> None:
    assert set(LABELS) >= BREAKING


@pytest.mark.parametrize("label", sorted(BREAKING))
def test_a_breaking_failure_of_this_server_that_is_not_over_breaks_it(label: str) -> None:
    broken = incident(label)
    assert breakage([incident("cuda_oom"), broken], SERVER) is broken
    assert breakage([broken], "10.0.0.4:8188") is None
    assert breakage([replace(broken, state="cleared")], SERVER) is None


def test_a_server_that_is_known_by_its_file_is_broken_too() -> None:
    by_file = replace(incident("worker_dead", source="comfyui.log"), also_in=(SERVER,))
    assert breakage([by_file], SERVER) is by_file


def test_a_failure_that_only_a_restart_mends_says_so_by_its_rule() -> None:
    assert only_a_restart_helps(incident("xid", "restart_server", "contact_support"))
    assert not only_a_restart_helps(incident("cuda_oom", "shrink_size", "restart_server"))
    assert not only_a_restart_helps(incident("node_failed"))
    assert not only_a_restart_helps(None)
