"""The Chinese catalogue is whole: every string of the code is in it, its places are kept, and the .mo is what the .po says."""

from __future__ import annotations

import re

import pytest
from babel.messages.catalog import Catalog

from tests.package.catalogue import MO, PO, catalogue, mo_bytes, po_bytes, strings, updated

PLACES = re.compile(r"\{[a-z][a-z0-9_]*\}|%\([a-z_]+\)[a-z]|%[a-z]")
KEPT = re.compile(r"`[^`]+`|(?<![\w-])--[a-z][a-z-]+")
CHINESE = re.compile(r"[\u4e00-\u9fff]")
SAME_IN_BOTH = {"{told}, {more}", "{words}.", "GPU", "{where}: {message}", "{message} {hint}"}
MADE_AT = re.compile(rb"POT-Creation-Date: [^\n]*\n")
"""babel writes the time of writing into a .mo."""
AGAIN = "run `make texts`, and fill in what is empty"


@pytest.fixture(scope="module")
def committed() -> Catalog:
    return catalogue()


@pytest.fixture(scope="module")
def chinese(committed: Catalog) -> dict[str, str]:
    return {str(message.id): str(message.string) for message in committed if message.id and message.string}


def test_every_string_of_the_code_has_its_chinese(chinese: dict[str, str]) -> None:
    assert [words for words in strings() if not chinese.get(words, "").strip()] == [], AGAIN


def test_places_are_the_same_on_both_sides(chinese: dict[str, str]) -> None:
    differing = {
        english: words
        for english, words in chinese.items()
        if set(PLACES.findall(english)) != set(PLACES.findall(words))
    }
    assert differing == {}


def test_options_and_quoted_names_are_kept(chinese: dict[str, str]) -> None:
    lost = {
        english: words for english, words in chinese.items() if set(KEPT.findall(english)) != set(KEPT.findall(words))
    }
    assert lost == {}


def test_spaces_at_the_ends_are_kept(chinese: dict[str, str]) -> None:
    def ends(words: str) -> tuple[str, str]:
        return words[: len(words) - len(words.lstrip())], words[len(words.rstrip()) :]

    assert {english: words for english, words in chinese.items() if ends(english) != ends(words)} == {}


def test_a_translation_is_chinese(chinese: dict[str, str]) -> None:
    left = {english: words for english, words in chinese.items() if not CHINESE.search(words)}
    assert left.keys() <= SAME_IN_BOTH


def test_the_po_is_what_the_code_asks_for() -> None:
    assert po_bytes(updated()) == PO.read_bytes(), AGAIN


def test_the_mo_is_what_the_po_says(committed: Catalog) -> None:
    def undated(content: bytes) -> bytes:
        return MADE_AT.sub(b"", content)

    assert undated(mo_bytes(committed)) == undated(MO.read_bytes()), AGAIN
