"""The committed schema is the one that the code makes, and says of a rule what the rulebook says."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuwatch.adapters.located import Problem, read_documents
from gpuwatch.adapters.rule_document import CORRELATION_REQUIRED, OPTIONAL, REQUIRED, rule_from
from gpuwatch.adapters.rule_schema import CORRELATION_EXAMPLE, EXAMPLE, rule_schema, schema_text
from gpuwatch.shipped import shipped_folder

RULES = shipped_folder("rules")


def schemas(schema: Any) -> Iterator[dict[str, Any]]:
    """A schema and all within it."""
    if isinstance(schema, dict):
        if "type" in schema or "enum" in schema or "anyOf" in schema:
            yield schema
        for name, inner in schema.items():
            if name != "examples" or not isinstance(inner, list):
                yield from schemas(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from schemas(inner)


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(rule_schema())
    return jsonschema.Draft202012Validator(rule_schema())


def test_the_committed_schema_is_the_one_the_code_makes() -> None:
    assert (RULES / "schema.json").read_text("utf-8") == schema_text(), "run `python -m gpuwatch.adapters.rule_schema`"


def test_every_field_is_there_and_described() -> None:
    schema = rule_schema()
    assert set(schema["properties"]) == {*REQUIRED, *OPTIONAL, "correlate"}
    assert all(field["description"] for field in schema["properties"].values())
    assert all(inner["additionalProperties"] is False for inner in schemas(schema) if "properties" in inner)


def test_every_shipped_file_names_the_schema() -> None:
    for path in RULES.glob("*.yaml"):
        assert path.read_text("utf-8").startswith("# yaml-language-server: $schema=schema.json\n"), path


@pytest.mark.parametrize("path", sorted(RULES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_rule_is_valid(validator: Any, path: Path) -> None:
    for document in read_documents(path):
        assert [error.message for error in validator.iter_errors(document.bare())] == [], document.where


def taken(folder: Path, rule: dict[str, Any]) -> bool:
    """Whether the rulebook takes the rule."""
    (folder / "mine.yaml").write_text(yaml.safe_dump(rule, allow_unicode=True), "utf-8")
    (document,) = read_documents(folder / "mine.yaml")
    try:
        rule_from(document)
    except Problem:
        return False
    return True


@pytest.mark.parametrize("example", [EXAMPLE, CORRELATION_EXAMPLE], ids=["match", "correlate"])
def test_the_example_is_a_rule(validator: Any, tmp_path: Path, example: dict[str, Any]) -> None:
    assert validator.is_valid(example)
    assert taken(tmp_path, example)


CHANGES: list[tuple[str, Any, bool]] = [
    ("id", "Not An Id", False),
    ("id", "a" * 64, True),
    ("id", "a" * 65, False),
    ("label", "no_label", False),
    ("title", {"en": "only"}, False),
    ("title", {"en": "a", "zh": " "}, False),
    ("title", {"en": "a", "zh": "甲", "fr": "b"}, False),
    ("severity", "dreadful", False),
    ("match", "a single one", True),
    ("match", [], False),
    ("match", "", False),
    ("match", "x" * 5000, False),
    ("unless", [], True),
    ("fallback", "yes", False),
    ("back", 33, False),
    ("back", 32, True),
    ("same_when", [], True),
    ("refine", {"fragmentation": "cuda_oom_fragmentation"}, True),
    ("refine", {"fragmentation": "no_label"}, False),
    ("refine", {"other": "cuda_oom"}, False),
    ("clear", {}, False),
    ("clear", {"match": "all is well"}, True),
    ("clear", {"after": "never"}, False),
    ("fixes", "free_memory", True),
    ("fixes", ["install"], False),
    ("fixes", [{"action": "install", "title": {"en": "a", "zh": "甲"}}], True),
    ("fixes", [{"action": "install"}], False),
    ("fixes", [{"action": "install", "title": {"en": "a", "zh": "甲"}, "safety": "no"}], False),
    ("references", [1], False),
    ("examples", {"match": "a log", "ignore": []}, True),
    ("examples", {"match": [], "ignore": []}, False),
    ("examples", {"match": ["a log"]}, False),
    ("examples", {"match": [{"facts": {}}], "ignore": []}, False),
    ("unknown", 1, False),
]


@pytest.mark.parametrize(("field", "value", "wanted"), CHANGES)
def test_schema_and_rulebook_agree(validator: Any, tmp_path: Path, field: str, value: Any, wanted: bool) -> None:
    rule = copy.deepcopy(EXAMPLE) | {field: value}
    assert (validator.is_valid(rule), taken(tmp_path, rule)) == (wanted, wanted)


@pytest.mark.parametrize("field", REQUIRED)
def test_both_want_the_same_fields(validator: Any, tmp_path: Path, field: str) -> None:
    rule = {name: value for name, value in EXAMPLE.items() if name != field}
    assert not validator.is_valid(rule)
    assert not taken(tmp_path, rule)


ANY = {"any_of": ["cuda_oom"], "within": 60}
ALL = {"all_of": ["cuda_oom", ["xid", "my-rule"]], "within": "5s"}
CORRELATION_CHANGES: list[tuple[str, Any, bool]] = [
    ("correlate", ANY, True),
    ("correlate", ALL, True),
    ("correlate", ANY | {"after": "xid", "count": 1, "same": "node", "standing": True}, True),
    ("correlate", ANY | {"count": 1000}, True),
    ("correlate", ANY | {"count": 1001}, False),
    ("correlate", ANY | {"count": 0}, False),
    ("correlate", ANY | {"within": "10 minutes"}, False),
    ("correlate", ANY | {"within": 0}, False),
    ("correlate", ANY | {"within": 90000}, False),
    ("correlate", ANY | {"same": "gpu"}, False),
    ("correlate", ANY | {"any_of": []}, False),
    ("correlate", ANY | ALL, False),
    ("correlate", ALL | {"count": 2}, False),
    ("correlate", ALL | {"all_of": ["cuda_oom"]}, False),
    ("correlate", ALL | {"all_of": ["cuda_oom", []]}, False),
    ("correlate", ALL | {"all_of": ["cuda_oom"] * 9}, False),
    ("correlate", {"within": 60}, False),
    ("correlate", {"any_of": ["cuda_oom"]}, False),
    ("correlate", {}, False),
    ("correlate", "cuda_oom", False),
    ("match", "a pattern", False),
    ("unless", "a pattern", False),
    ("clear", {"after": "success"}, False),
    ("examples", {"match": [{"at": 0, "label": "xid"}], "ignore": []}, True),
    ("examples", {"match": [], "ignore": []}, False),
    ("examples", {"match": ["a log"], "ignore": []}, False),
    ("examples", {"match": [[{"at": 0}]], "ignore": []}, False),
    ("examples", {"match": [[{"at": 0, "label": "xid", "log": "a"}]], "ignore": []}, False),
    ("examples", {"match": [[{"at": -1, "log": "a"}]], "ignore": []}, False),
]


@pytest.mark.parametrize(("field", "value", "wanted"), CORRELATION_CHANGES)
def test_schema_and_rulebook_agree_on_failures_together(
    validator: Any, tmp_path: Path, field: str, value: Any, wanted: bool
) -> None:
    rule = copy.deepcopy(CORRELATION_EXAMPLE) | {field: value}
    assert (validator.is_valid(rule), taken(tmp_path, rule)) == (wanted, wanted)


@pytest.mark.parametrize("field", CORRELATION_REQUIRED)
def test_both_want_the_same_fields_of_failures_together(validator: Any, tmp_path: Path, field: str) -> None:
    rule = {name: value for name, value in CORRELATION_EXAMPLE.items() if name != field}
    assert not validator.is_valid(rule)
    assert not taken(tmp_path, rule)


def test_the_schema_is_json() -> None:
    assert json.loads(schema_text())["$schema"].endswith("2020-12/schema")
