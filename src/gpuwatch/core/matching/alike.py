"""Lines that differ in their digits alone: what most patterns find in one they find in the next, at the same places.

A log full of failures says the same again with other numbers. What was decided of a line is remembered by the line with every
digit made a zero, where each pattern that was asked takes all digits wherever it takes one; else by the line itself.
"""

from __future__ import annotations

import re._constants as op
from collections.abc import Iterable
from typing import Any, TypeVar

from gpuwatch.core.matching.syntax import tree_of

LONGEST_BYTES = 4096
"""Of longer lines nothing is remembered."""
_DIGITS = frozenset(b"0123456789")
_SAME_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def without_numbers(text: bytes) -> bytes:
    """The line with every digit made a zero."""
    return text.translate(_SAME_DIGITS)


def takes_digits_alike(pattern: bytes) -> bool:
    """Whether the pattern surely finds the same, at the same places, when a digit becomes another one."""
    tree = tree_of(pattern)
    return tree is not None and _all_alike(tree)


def _all_alike(tree: Iterable[Any]) -> bool:
    return all(_alike(code, argument) for code, argument in tree)


def _alike(code: Any, argument: Any) -> bool:
    if code in (op.LITERAL, op.NOT_LITERAL):
        return argument not in _DIGITS
    if code in (op.ANY, op.AT, op.CATEGORY):
        return True  # digits are all digits, and all parts of a word
    if code is op.IN:
        return len({_holds(argument, digit) for digit in _DIGITS}) == 1
    if code in _REPEATS:
        return _all_alike(argument[2])
    if code is op.SUBPATTERN:
        return _all_alike(argument[3])
    if code is op.ATOMIC_GROUP:
        return _all_alike(argument)
    if code in (op.ASSERT, op.ASSERT_NOT):
        return _all_alike(argument[1])
    if code is op.BRANCH:
        return all(_all_alike(branch) for branch in argument[1])
    return False  # a back-reference compares digits with each other


def _holds(members: Iterable[Any], digit: int) -> bool:
    """Whether one of a class's literals or ranges is this digit; categories hold all digits or none."""
    return any(
        (code is op.LITERAL and value == digit) or (code is op.RANGE and value[0] <= digit <= value[1])
        for code, value in members
    )


def remember(known: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> None:
    """Keep a value among at most so many: the oldest goes."""
    if len(known) >= most:
        del known[next(iter(known))]
    known[key] = value
