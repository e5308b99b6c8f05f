"""What a pattern of a rule must not do: fail to compile, match every line, mean single bytes of a character, or eat the machine.

A pattern is judged as it is written before it is compiled, because compiling "(?:a{60000}){60000}" alone takes all memory. How
long a pattern runs over a log is the matcher's to bound; `slowness` tells beforehand, to who asks for it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import regex

from gpuwatch.core.matching.matcher import PATTERN_TIMEOUT_SECONDS
from gpuwatch.core.records import LONGEST_RECORD_BYTES
from gpuwatch.texts import Text, text

LONGEST_CHARACTERS = 4000
LARGEST_STEPS = 20_000
"""What the compiler makes of the lower bounds of repeats: "(?:ab){1000}" has 2000 steps."""
_REPEAT = re.compile(r"\{(\d*)(?:,\d*)?\}")
_CALL = re.compile(r"\(\?(?:R|\d+|&\w+|P>\w+)\)")
_LINES = (b"got prompt", b"100%|##########| 20/20", b"Starting server", b"...", "完成".encode(), b"=")
"""They have nothing in common."""
_MONOTONY = (b"a", b"0", b" ", b"a ", b"(", b"/")
_MIDDLE_BYTES = 2000
_COMPILER_ERRORS = (
    regex.error, Warning, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError, MemoryError,
)  # fmt: skip
"""`regex` promises only its own error; others come out of it for odd patterns."""


def complaint(written: str) -> Text | None:
    """What is wrong with a pattern; None where nothing is."""
    if len(written) > LONGEST_CHARACTERS:
        return text("the pattern is longer than {most} characters; write several.", most=LONGEST_CHARACTERS)
    if found := next(hazards(written), None):
        return found
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compiled: Any = regex.compile(written.encode())
        matches_empty = compiled.search(b"", timeout=1) is not None
    except _COMPILER_ERRORS as error:
        return text("the pattern does not compile: {reason}.", reason=str(error) or type(error).__name__)
    except TimeoutError:
        return text("the pattern takes too long on an empty line.")
    if matches_empty:
        return text("the pattern matches an empty line, and so every line; write what must stand there.")
    return None


def matches_anything(written: str) -> bool:
    """Whether a sound pattern matches lines that have nothing in common."""
    compiled: Any = regex.compile(written.encode())
    try:
        return all(compiled.search(line, timeout=1) for line in _LINES)
    except TimeoutError:
        return True


def slowness(pattern: bytes, samples: Iterable[bytes]) -> Text | None:
    """What is wrong with a sound pattern that takes too long on the longest of lines; None where nothing is.

    The lines are made of the samples, which are the rule's own examples, and of single characters. What passes may still be
    slow on another line.
    """
    compiled: Any = regex.compile(pattern)
    for probe in probes(samples):
        if overruns(compiled, probe) and overruns(compiled, probe):  # once may be a busy machine
            return text(
                "the pattern takes longer than {limit_seconds} on a line of {size_bytes}; give its repeats an upper bound, and "
                "repeat none within another.",
                limit_seconds=PATTERN_TIMEOUT_SECONDS,
                size_bytes=len(probe),
            )
    return None


def overruns(compiled: Any, line: bytes) -> bool:
    """Whether the matcher would give the pattern up on this line."""
    try:
        compiled.search(line, timeout=PATTERN_TIMEOUT_SECONDS)
    except TimeoutError:
        return True
    return False


def probes(samples: Iterable[bytes]) -> Iterator[bytes]:
    """Lines on which patterns run long: a sample or a character again and again, and such a middle between two samples."""
    samples = [sample for sample in samples if sample]
    for piece in (*_MONOTONY, *samples):
        yield (piece * (LONGEST_RECORD_BYTES // len(piece) + 1))[:LONGEST_RECORD_BYTES]
    for sample in samples:
        for piece in _MONOTONY:
            yield sample + piece * (_MIDDLE_BYTES // len(piece)) + b"\0" + sample


def hazards(written: str) -> Iterator[Text]:
    """What the pattern as written would do that its author cannot mean."""
    open_groups, last, place = [0], 0, 0
    while place < len(written):
        sign, after = written[place], place + 1
        if repeat := _REPEAT.match(written, place):
            after = repeat.end()
            more = last * (int(repeat[1] or 0) - 1)
            if more > 0:
                open_groups[-1] += more
                last += more
        elif sign == "(":
            if _CALL.match(written, place):
                yield text("a pattern must not call itself or a group; write the group out.")
            open_groups.append(0)
        elif sign == ")":
            last = open_groups.pop() if len(open_groups) > 1 else 0
            open_groups[-1] += last
        elif sign not in "*+?|^$":
            after = end_of_one(written, place)
            if sign == "[" and not written[place:after].isascii():
                yield text("a set like [显存] means single bytes here: write the alternatives as (?:显|存).")
            elif not sign.isascii() and written[after : after + 1] in {"*", "+", "?", "{"}:
                yield text("a repeat after a non-ASCII character means its last byte: put the character in (?:...).")
            last = 1
            open_groups[-1] += 1
        if sum(open_groups) > LARGEST_STEPS:
            yield text("the pattern repeats too often: use * or + or an upper bound in place of a count.")
            return
        place = after


def end_of_one(written: str, place: int) -> int:
    """Where the set, the escape or the character ends that begins at a place."""
    if written[place] == "\\":
        return place + 2
    if written[place] != "[":
        return place + 1
    place += 2 if written[place + 1 : place + 2] == "^" else 1
    if written[place : place + 1] == "]":
        place += 1
    while place < len(written) and written[place] != "]":
        place += 2 if written[place] == "\\" else 1
    return place + 1
