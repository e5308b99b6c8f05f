"""Every rule's own examples, and the rules as a set."""

from __future__ import annotations

import json

import pytest

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.rehearsal import spoken_of
from gpuwatch.core.rules import SEVERITIES, Rule
from tests.rules.corpus import CORPUS, facts_of, incidents_of, judge, ready

RULES = load_rules()
EACH = pytest.mark.parametrize("rule", list(RULES), ids=lambda rule: rule.id)
EACH_OF_BOTH_KINDS = pytest.mark.parametrize("rule", RULES.every, ids=lambda rule: rule.id)


@EACH
def test_the_rule_finds_its_examples_and_their_facts(rule: Rule) -> None:
    for example in rule.matching_examples:
        incidents = incidents_of(example.log, RULES)
        found = [incident for incident in incidents if incident.rule.id == rule.id]
        assert found, f"{rule.where}: not found in {example.log!r}; found {[i.rule.id for i in incidents]}"
        facts = facts_of(found)
        for name, value in example.facts.items():
            assert facts.get(name) == value, f"{rule.where}: {name} of {example.log!r}"


@EACH
def test_the_rule_leaves_its_counter_examples_alone(rule: Rule) -> None:
    for log in rule.ignored_examples:
        assert rule.id not in {incident.rule.id for incident in incidents_of(log, RULES)}, f"{rule.where}: {log!r}"


@pytest.mark.parametrize("rule", RULES.correlations, ids=lambda rule: rule.id)
def test_the_rule_finds_what_its_examples_mean_together(rule: Rule) -> None:
    matcher, _workloads = ready(RULES)
    for steps in rule.matching_sequences:
        assert rule.id in spoken_of(steps, RULES, matcher), f"{rule.where}: {steps}"
    for steps in rule.ignored_sequences:
        assert rule.id not in spoken_of(steps, RULES, matcher), f"{rule.where}: {steps}"


@EACH_OF_BOTH_KINDS
def test_the_rule_has_enough_examples_and_both_languages(rule: Rule) -> None:
    assert len(rule.matching_examples or rule.matching_sequences) >= 3
    assert len(rule.ignored_examples or rule.ignored_sequences) >= 3
    for words in (rule.title, rule.why, *(fix.title for fix in rule.fixes if fix.title)):
        assert words.zh
        assert words.zh != words.template
        assert any("\u4e00" <= character <= "\u9fff" for character in words.zh)


def test_overrides_name_rules_that_exist() -> None:
    for rule in RULES:
        assert set(rule.overrides) <= RULES.by_id.keys(), rule.where


def test_every_failure_is_above_info() -> None:
    assert all(SEVERITIES.index(rule.severity) > 0 for rule in RULES.every)


@pytest.mark.skipif(not CORPUS.is_file(), reason="the labelled corpus lives beside the repository and is not here")
def test_the_corpus_is_read_right() -> None:
    cases = [json.loads(line) for line in CORPUS.read_text("utf-8").splitlines()]
    verdicts = {case["id"]: judge(case, RULES) for case in cases}
    benign = [case["id"] for case in cases if case["label"] == "benign" and not verdicts[case["id"]][0]]
    labels = sum(label for label, _, _ in verdicts.values()) / len(cases)
    facts = sum(fact for _, fact, _ in verdicts.values()) / len(cases)
    assert not benign
    assert labels >= 0.98
    assert facts >= 0.98
