"""Large JSON in pieces: the same values as Python's own reader gives, wherever the pieces are cut, and bounded."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuwatch.adapters.traces import json_items, opening
from gpuwatch.adapters.traces.json_items import items_of
from gpuwatch.errors import UsageError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def rebuilt(path: Path) -> dict[str, Any]:
    """What the items add up to: a list of values for each key and place."""
    found: dict[str, Any] = {}
    for items in items_of(path):
        found.setdefault(items.key, {}).setdefault(items.outer, []).extend(items.values)
    return found


def expected(document: Any) -> dict[str, Any]:
    if isinstance(document, list):
        document = {"": document}
    found: dict[str, Any] = {}
    for key, value in document.items():
        places = found.setdefault(key, {})
        if not isinstance(value, list):
            places[-1] = [value]
            continue
        inner = [each for each in value if isinstance(each, list)]
        for place, each in enumerate(inner):
            places[place] = each
        flat = [each for each in value if not isinstance(each, list)]
        if flat or not inner:
            places[-1] = flat
    return found


@st.composite
def documents(draw: st.DrawFn) -> tuple[Any, str]:
    """A document, and a text that it is written as."""
    document = draw(st.dictionaries(st.text(max_size=5), VALUES, max_size=5) | st.lists(VALUES, max_size=6))
    return document, json.dumps(document, indent=draw(st.sampled_from([None, 2])), ensure_ascii=draw(st.booleans()))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=documents(), piece=st.integers(1, 40))
def test_pieces_give_what_the_whole_gives(
    written: tuple[Any, str], piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "PIECE_BYTES", piece)
    path = tmp_path / "a.json"
    path.write_text(written[1], "utf-8")
    assert rebuilt(path) == expected(written[0])


def test_batches_are_bounded_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": list(range(5000))}).encode()))
    batches = [items.values for items in items_of(path)]
    assert max(map(len, batches)) <= 512
    assert [value for batch in batches for value in batch] == list(range(5000))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": [1, 2', "its JSON is cut off"),
        (b'{"a": [1, {"b": "c', "its JSON is cut off"),
        (b'{"a"', "its JSON is cut off"),
        (b"[1, 2, ", "its JSON is cut off"),
        (b"[1 2]", "no valid JSON near character 3"),
        (b'{"a": [1, X, 3, 4, 5, 6, 7, 8, 9, 10]}', "no valid JSON near character 10"),
        (b'{"a": [{"ph": }, 1, 2, 3, 4, 5, 6, 7, 8, 9]}', "no valid JSON near character 7"),
        (b"{1: 2}", "no valid JSON"),
        (b'{"a": [1]] ', "no valid JSON"),
        (b"[" + b"7" * 5000 + b", 1]", "no valid JSON"),
        (b'{"a": [' + b"[" * 100_000, "nested too deep"),
        (b'{"a": [' + b'{"a":' * 100_000, "nested too deep"),
    ],
)
def test_what_is_no_json_is_told_after_what_came_before(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    given_before: list[Any] = []

    def take_all() -> None:
        for items in items_of(path):
            given_before.extend(items.values)

    with pytest.raises(UsageError, match=words):
        take_all()
    if content.startswith(b'{"a": [1'):
        assert given_before == [1, 2][: len(given_before)] != []


def test_one_endless_value_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PIECE_BYTES", 1000)
    monkeypatch.setattr(json_items, "LONGEST_CHARACTERS", 5000)
    path = tmp_path / "a.json"
    path.write_bytes(b'[1, "' + b"x" * 50_000 + b'", 2]')
    with pytest.raises(UsageError, match="one value is longer than 5000 characters"):
        list(items_of(path))


def test_bytes_that_are_no_text_become_signs(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf["a\xffb"]')
    assert rebuilt(path) == {"": {-1: ["a�b"]}}
