"""A value is replaced where it stands in a text, and nothing else of the text changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwatch.core.workflow.places import Edit, Path, at, edited, edited_text, span_of

LEAVES = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=12)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
STYLES: list[dict[str, Any]] = [
    {}, {"indent": 2}, {"indent": "\t"}, {"separators": (",", ":")}, {"ensure_ascii": False, "indent": 1},
]  # fmt: skip


def places(value: Any, here: Path = ()) -> list[Path]:
    inner: list[Path] = []
    if isinstance(value, dict):
        inner = [place for key, each in value.items() for place in places(each, (*here, key))]
    elif isinstance(value, list):
        inner = [place for number, each in enumerate(value) for place in places(each, (*here, number))]
    return [here, *inner]


@settings(max_examples=150, deadline=None)
@given(
    value=VALUES, style=st.sampled_from(STYLES), new=LEAVES, data=st.data(), frame=st.sampled_from(["", "\n", " \r\n"])
)
def test_one_value_changes_and_not_one_other_character(
    value: Any, style: dict[str, Any], new: Any, data: st.DataObject, frame: str
) -> None:
    text = frame + json.dumps(value, **style) + frame
    place = data.draw(st.sampled_from(places(value)))
    start, end = span_of(text, place)
    assert json.loads(text[start:end]) == at(value, place)
    changed = edited_text(text, [Edit(place, new)])
    assert json.loads(changed) == edited(value, [Edit(place, new)])
    assert changed.startswith(text[:start])
    assert changed.endswith(text[end:])


@settings(max_examples=60, deadline=None)
@given(value=st.dictionaries(st.text(max_size=6), LEAVES, min_size=1, max_size=4), style=st.sampled_from(STYLES))
def test_members_are_added_in_the_style_of_the_others(value: dict[str, Any], style: dict[str, Any]) -> None:
    added = {name: 5 for name in ("tile_size", "overlap") if name not in value}
    assert edited_text(json.dumps(value, **style), [Edit((), added=added)]) == json.dumps({**value, **added}, **style)


def test_the_original_stays_and_what_is_not_touched_is_shared() -> None:
    value = {"a": {"b": [1, 2]}, "c": {"d": 3}}
    new = edited(value, [Edit(("a", "b", 1), 9)])
    assert (value["a"], new["a"]) == ({"b": [1, 2]}, {"b": [1, 9]})
    assert new["c"] is value["c"]


@pytest.mark.parametrize(
    ("text", "place", "new", "expected"),
    [
        ('{"a": 1.0}', ("a",), 2, '{"a": 2.0}'),
        ('{"a": 1}', ("a",), 0.47, '{"a": 0.47}'),
        ('{"a": 1e3, "b": "\\u00e4"}', ("a",), 512, '{"a": 512.0, "b": "\\u00e4"}'),
        ('\ufeff{"a":1}', ("a",), 2, '\ufeff{"a":2}'),
        ('{"a": 1, "a": 2}', ("a",), 3, '{"a": 1, "a": 3}'),
        ('{"名": "x"}', ("名",), "ä", '{"名": "ä"}'),
        ('{"n": "x"}', ("n",), "ä", '{"n": "\\u00e4"}'),
    ],
)
def test_a_value_is_written_as_its_text_writes_values(text: str, place: Path, new: Any, expected: str) -> None:
    assert edited_text(text, [Edit(place, new)]) == expected


def test_a_place_that_is_not_there_is_refused() -> None:
    for text, place in (('{"a": 1}', ("b",)), ("[1]", (3,)), ('{"a": 1}', (0,)), ("[1]", ("a",))):
        with pytest.raises(LookupError):
            edited_text(text, [Edit(place, 1)])
        with pytest.raises((LookupError, TypeError)):
            edited(json.loads(text), [Edit(place, 1)])
