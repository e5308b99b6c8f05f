"""What a verb's docstring says below its summary, in the language in use: commands stay, words about them are translated."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpuwatch.texts import translate

_EXAMPLES = "Examples:"
_COMMENTED = re.compile(r"(  \S.*? {2,})(\S.*)")
"""An example with words about it, two spaces or more behind the command."""


def pieces(body: str) -> Iterator[tuple[str, str]]:
    """The body in its order: what stays as it is, and the words behind that, which a translation takes the place of."""
    for number, paragraph in enumerate(body.split("\n\n")):
        gap = "\n\n" if number else ""
        heading, *examples = paragraph.split("\n")
        if heading != _EXAMPLES:
            yield gap, paragraph
            continue
        yield gap, heading
        for line in examples:
            found = _COMMENTED.fullmatch(line)
            yield (f"\n{found[1]}", found[2]) if found else (f"\n{line}", "")


def in_language(body: str) -> str:
    """The body in the language in use."""
    return "".join(kept + (translate(words) if words else "") for kept, words in pieces(body))
