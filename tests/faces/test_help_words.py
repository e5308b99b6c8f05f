"""The help below a verb's options: the same commands, options and numbers in both languages."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from gpuwatch.faces import cli
from gpuwatch.faces.help_words import in_language, pieces
from gpuwatch.texts import use

VERBS = cli.verb_names()

_FIXED = re.compile(r"--[a-z][\w-]*|`[^`]+`|\$\w+|~/[\w./]*\w|https?://\S+?(?=[\s,.，。；]|$)|\d+(?:\.\d+)?")


@pytest.fixture(autouse=True)
def english_afterwards() -> Iterator[None]:
    yield
    use("en")


def body_of(verb: str) -> str:
    return cli.words_of(verb).strip().partition("\n")[2].strip()


@pytest.mark.parametrize("verb", VERBS)
def test_commands_options_and_numbers_are_the_same_in_both_languages(verb: str) -> None:
    english = body_of(verb)
    use("zh")
    chinese = in_language(english)
    assert sorted(_FIXED.findall(chinese)) == sorted(_FIXED.findall(english))
    assert "Examples:" not in chinese
    assert chinese.startswith("示例：\n  ")
    commands = [kept.strip() for kept, _words in pieces(english) if kept.strip()]
    assert commands
    assert [command for command in commands if command not in chinese] == []


def test_english_stays_as_it_is_written() -> None:
    use("en")
    for verb in VERBS:
        assert in_language(body_of(verb)) == body_of(verb)


def test_an_example_is_parted_from_the_words_about_it() -> None:
    body = "Examples:\n  gpuwatch a --b  c   what it does\n  gpuwatch d\n\nMore of it,\non two lines."
    assert list(pieces(body)) == [
        ("", "Examples:"),
        ("\n  gpuwatch a --b  ", "c   what it does"),
        ("\n  gpuwatch d", ""),
        ("\n\n", "More of it,\non two lines."),
    ]
