"""The rule's JSON Schema, for editors: completion and red lines while a rule is written.

    python -m gpuwatch.adapters.rule_schema        write rules/schema.json

Made from the sets that rule files are read with, so that both accept the same. What a schema cannot say (a pattern compiles, an
id is free) stays the rulebook's.
"""

from __future__ import annotations

import json
import sys
from typing import Any, get_args

from gpuwatch.adapters.rule_correlate import (
    DURATION_PATTERN,
    LONGEST_SECONDS,
    MOST_FAILURES,
    MOST_TOGETHER,
    SHORTEST_SECONDS,
)
from gpuwatch.adapters.rule_document import (
    CORRELATION_OPTIONAL,
    CORRELATION_REQUIRED,
    FARTHEST_RECORDS,
    ID_PATTERN,
    LONGEST_ID_CHARACTERS,
    OPTIONAL,
    REQUIRED,
)
from gpuwatch.adapters.rule_patterns import LONGEST_CHARACTERS
from gpuwatch.core.diagnosis import Safety
from gpuwatch.core.planners import PLANNERS
from gpuwatch.core.rules import ACTIONS, LABELS, REFINEMENTS, SEVERITIES, ClearAfter, Sameness
from gpuwatch.shipped import shipped_folder

Schema = dict[str, Any]

EXAMPLE: Schema = {
    "id": "upscaler-gave-up",
    "label": "node_failed",
    "title": {"en": "The upscaler gave up", "zh": "放大节点中止"},
    "severity": "error",
    "why": {"en": "A tile stayed black: half precision overflowed.", "zh": "有分块一直全黑：半精度溢出。"},
    "match": [r"MyUpscaler: tile \d+ stayed black"],
    "unless": ["retrying in float32"],
    "overrides": ["comfyui-node-failed"],
    "facts": [r"with (?P<free_bytes>[\d.]+ [KMG]iB) free"],
    "back": 0,
    "ahead": 2,
    "clear": {"after": "success"},
    "fixes": [
        "free_memory",
        {
            "action": "launch_flag",
            "title": {"en": "Start ComfyUI in float32.", "zh": "用 float32 启动 ComfyUI。"},
            "safety": "restarts",
            "command": "python main.py --force-fp32",
        },
    ],
    "references": ["https://docs.comfy.org/"],
    "examples": {
        "match": [
            {"log": "MyUpscaler: tile 7 stayed black, with 1.50 GiB free", "facts": {"free_bytes": 1610612736}},
            "MyUpscaler: tile 1 stayed black",
        ],
        "ignore": ["MyUpscaler: tile 7 stayed black, retrying in float32"],
    },
}
"""A rule that the rulebook takes; a test holds it to that."""

CORRELATION_EXAMPLE: Schema = {
    "id": "upscaler-keeps-failing",
    "label": "repeated_failures",
    "title": {"en": "The upscaler keeps failing", "zh": "放大节点反复失败"},
    "severity": "warning",
    "why": {"en": "It failed {failure_count} times.", "zh": "已失败 {failure_count} 次。"},
    "correlate": {"any_of": ["upscaler-gave-up"], "count": 3, "within": "10m", "same": "source"},
    "fixes": ["restart_server"],
    "examples": {
        "match": [
            [{"at": 0, "label": "node_failed"}, {"at": 60, "log": "MyUpscaler: tile 7 stayed black", "source": "a.log"}]
        ],
        "ignore": [],
    },
}
"""The same for a rule that correlates."""


def rule_schema() -> Schema:
    """The schema of one rule document."""
    fields = rule_fields()
    pattern_fields = {
        name for name in (*REQUIRED, *OPTIONAL) if name not in (*CORRELATION_REQUIRED, *CORRELATION_OPTIONAL)
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A gpuwatch rule",
        "description": "What one failure looks like in a log, what it is called, which numbers stand in it, what helps.",
        "type": "object",
        "required": [name for name in REQUIRED if name in CORRELATION_REQUIRED],
        "additionalProperties": False,
        "properties": {name: fields[name] for name in (*REQUIRED, "correlate", *OPTIONAL)},
        "if": {"required": ["correlate"]},
        "then": {"properties": {"examples": sequences(), **dict.fromkeys(sorted(pattern_fields), False)}},
        "else": {"required": ["match"], "properties": {"examples": examples()}},
        "$defs": {"step": step()},
        "examples": [EXAMPLE, CORRELATION_EXAMPLE],
    }


def rule_fields() -> dict[str, Schema]:
    """Each field of a rule."""
    label = choice("The failure class: a closed set, because it is also a metric's label.", LABELS)
    return {
        "id": {
            "description": "The rule's name: lower-case words joined by hyphens. A shipped rule's id takes that rule's place.",
            "type": "string",
            "pattern": f"^{ID_PATTERN}$",
            "maxLength": LONGEST_ID_CHARACTERS,
        },
        "label": label,
        "title": bilingual("What happened, in a few words."),
        "severity": choice("How bad it is.", SEVERITIES),
        "why": bilingual("What is behind it, in a sentence or two."),
        "match": one_or_more(
            pattern("Patterns over the bytes of one log record, without its time and level; any of them is enough."),
            least=1,
        ),
        "examples": {"description": "The rule's own tests: `gpuwatch rules test` runs them.", "type": "object"},
        "correlate": correlate(),
        "unless": one_or_more(pattern("Patterns that veto a match on the same record.")),
        "overrides": one_or_more(string("Ids of rules that give way to this one in the same failure.")),
        "fallback": flag('True for a rule that says only "something failed": it gives way to every other rule.'),
        "same_when": one_or_more(
            string(
                "Facts that tell one failure from the next: further lines on which they are equal belong to the open one. "
                "An empty list: every further line does."
            )
        ),
        "echo": flag("True where the lines belong to a failure told before; they open one only where none is open."),
        "recovered": flag("True where the program says that it coped."),
        "facts": one_or_more(
            pattern(r"Patterns with named groups, the last word of a name its unit: (?P<tried_bytes>[\d.]+ [KMG]iB).")
        ),
        "back": records("How many records before the match the fact patterns look at."),
        "ahead": records("How many records after the match the fact patterns look at."),
        "refine": closed(
            "A named test over the facts, and the label that the failure has where the test holds.",
            dict.fromkeys(REFINEMENTS, label),
        ),
        "clear": {
            **closed(
                "When the condition is over.",
                {
                    "after": choice("A job that succeeds, or a restart of the program.", get_args(ClearAfter)),
                    "match": pattern("A record that says it is over."),
                },
            ),
            "minProperties": 1,
        },
        "fixes": one_or_more(fix()),
        "references": one_or_more(string("Where to read more: an address.")),
    }


def correlate() -> Schema:
    """Which failures mean something together."""
    name = string("A label or a rule's id.")
    span = "A time span: seconds, or 30s, 10m, 2h."
    return {
        **closed(
            "Failures of other rules that mean something together. A rule has this or `match`.",
            {
                "within": {
                    "description": span,
                    "anyOf": [
                        {"type": "number", "minimum": SHORTEST_SECONDS, "maximum": LONGEST_SECONDS},
                        {"type": "string", "pattern": f"^{DURATION_PATTERN}$"},
                    ],
                },
                "any_of": one_or_more({**name, "description": "Failures of any of these count."}, least=1),
                "count": {
                    "description": "How many of them; 2 where nothing is said, 1 with `after`.",
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MOST_FAILURES,
                },
                "after": one_or_more({**name, "description": "Only failures after one of these count."}),
                "all_of": {
                    "description": "One failure of each of these; a list in the list means any of its names.",
                    "type": "array",
                    "items": one_or_more(name, least=1),
                    "minItems": 2,
                    "maxItems": MOST_TOGETHER,
                },
                "same": choice("What the failures must have in common.", get_args(Sameness)),
                "standing": flag("True where a failure that is over no longer counts."),
            },
            required=("within",),
        ),
        "oneOf": [
            {"required": ["any_of"]},
            {"required": ["all_of"], "properties": {"count": False, "after": False}},
        ],
    }


def step() -> Schema:
    """One failure of an example."""
    return {
        **closed(
            "A failure: when, where, and the log's line or only its label.",
            {
                "at": {"description": "Seconds since the example began.", "type": "number", "minimum": 0},
                "source": string("The log that tells it."),
                "log": string("The line."),
                "label": choice("The failure's label.", LABELS),
            },
            required=("at",),
        ),
        "oneOf": [{"required": ["log"]}, {"required": ["label"]}],
    }


def sequences() -> Schema:
    """The own tests of a rule that correlates."""
    told = {"description": "Failures in the order of time.", "$ref": "#/$defs/step"}
    several = one_or_more(one_or_more(told, least=1))
    return closed(
        "The rule's own tests: failures in the order of time.",
        {
            "match": {**one_or_more(one_or_more(told, least=1), least=1), "description": "What the rule must find."},
            "ignore": {**several, "description": "What the rule must leave alone."},
        },
        required=("match", "ignore"),
    )


def fix() -> Schema:
    """A fix: a planner's name, or an object with words of its own."""
    own = closed(
        "A fix in words of this rule's own.",
        {
            "action": choice("What kind of fix it is.", ACTIONS),
            "title": bilingual("What a person is told to do."),
            "safety": choice("What else it does.", get_args(Safety)),
            "command": string("A command to copy."),
        },
        required=("action", "title"),
    )
    planned = choice(
        "A fix that gpuwatch words itself, with numbers where it has them.",
        [name for name in ACTIONS if name in PLANNERS],
    )
    return {"description": "What helps, the best first.", "anyOf": [planned, own]}


def examples() -> Schema:
    """The rule's own tests."""
    fact = {"anyOf": [{"type": ["string", "number", "boolean", "null"]}, {"type": "array"}]}
    with_facts = closed(
        "A log, and facts that must be found in it.",
        {"log": string("The log."), "facts": {"type": "object", "additionalProperties": fact}},
        required=("log",),
    )
    log = string("A log that the rule must match.")
    return closed(
        "The rule's own tests: `gpuwatch rules test` runs them.",
        {
            "match": one_or_more(
                {"description": "A log that the rule must match.", "anyOf": [log, with_facts]}, least=1
            ),
            "ignore": one_or_more(string("A log that the rule must leave alone.")),
        },
        required=("match", "ignore"),
    )


def one_or_more(item: Schema, least: int = 0) -> Schema:
    """A list, or its one item by itself, as the rulebook reads them."""
    several: Schema = {"type": "array", "items": item}
    if least:
        several["minItems"] = least
    return {"description": item["description"], "anyOf": [item, several]}


def closed(description: str, properties: Schema, required: tuple[str, ...] = ()) -> Schema:
    """An object with these properties and no others."""
    schema: Schema = {"description": description, "type": "object", "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return {**schema, "properties": properties}


def bilingual(description: str) -> Schema:
    """A text in both languages."""
    words = {"en": {**string("In English."), "pattern": r"\S"}, "zh": {**string("In Chinese."), "pattern": r"\S"}}
    return closed(description, words, required=("en", "zh"))


def choice(description: str, known: Any) -> Schema:
    """A string out of a closed set."""
    return {"description": description, "enum": list(known)}


def string(description: str) -> Schema:
    """Any string."""
    return {"description": description, "type": "string"}


def pattern(description: str) -> Schema:
    """A pattern of the `regex` module."""
    return {**string(description), "minLength": 1, "maxLength": LONGEST_CHARACTERS}


def flag(description: str) -> Schema:
    """True or false."""
    return {"description": description, "type": "boolean", "default": False}


def records(description: str) -> Schema:
    """A count of records."""
    return {
        "description": description,
        "type": "integer",
        "minimum": 0,
        "maximum": FARTHEST_RECORDS,
        "default": 0,
    }


def schema_text() -> str:
    """The file as it is committed."""
    return json.dumps(rule_schema(), ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    path = shipped_folder("rules") / "schema.json"
    path.write_text(schema_text(), "utf-8")
    sys.stdout.write(f"{path}\n")
