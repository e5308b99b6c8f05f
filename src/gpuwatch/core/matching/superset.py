"""A pattern -> a plainer one that matches wherever it does, and that a scanner without backtracking can run.

Anchors, lookaround and back-references are dropped; possessive and atomic groups become plain ones; what is optional or
unbounded at either end goes, since a match without it is a match. So the record need not be cut out first: a prefix may stand
before `^`, and a line end after `$`. The plain pattern only nominates; the rule's own decides.
"""

from __future__ import annotations

import re
import re._constants as op
from collections.abc import Iterable
from typing import Any

from gpuwatch.core.matching.syntax import tree_of

_MOST_REPEATS = 64
"""A longer bounded repeat is taken for an unbounded one; a scanner would unroll it."""
_MOST_REQUIRED = 16
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_NOTHING = (op.AT, op.ASSERT, op.ASSERT_NOT)
_CATEGORIES = {
    op.CATEGORY_DIGIT: rb"0-9",
    op.CATEGORY_NOT_DIGIT: rb"\x00-\x2f\x3a-\xff",
    op.CATEGORY_SPACE: rb"\x09-\x0d\x20",
    op.CATEGORY_NOT_SPACE: rb"\x00-\x08\x0e-\x1f\x21-\xff",
    op.CATEGORY_WORD: rb"0-9A-Za-z_",
    op.CATEGORY_NOT_WORD: rb"\x00-\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\xff",
}


class _UnknownError(Exception):
    """The pattern holds something that has no plain form."""


def superset_of(pattern: bytes) -> bytes | None:
    """A pattern in the syntax that PCRE, RE2 and Python share, over bytes; None where there is none, or it matches nothing.

    Letters fold as ASCII. Whatever text holds a match of `pattern` on one line holds a match of the result on that line.
    """
    tree = tree_of(pattern)
    if tree is None:
        return None
    try:
        plain = _sequence(_trimmed(tree))
    except (_UnknownError, RecursionError):
        return None
    if not plain:
        return None
    return b"(?i:" + plain + b")" if tree.state.flags & re.IGNORECASE else plain


def _trimmed(tree: Iterable[Any]) -> list[Any]:
    """The sequence without what its ends can do without."""
    parts = list(tree)
    while parts and _can_be_nothing(parts[0]):
        del parts[0]
    while parts and _can_be_nothing(parts[-1]):
        del parts[-1]
    for end in {0, len(parts) - 1} if parts else ():
        code, argument = parts[end]
        if code in _REPEATS:
            parts[end] = (code, (argument[0], argument[0], argument[2]))
    return parts


def _can_be_nothing(part: Any) -> bool:
    code, argument = part
    return code in _NOTHING or (code in _REPEATS and argument[0] == 0)


def _sequence(tree: Iterable[Any]) -> bytes:
    return b"".join(_part(code, argument) for code, argument in tree)


def _part(code: Any, argument: Any) -> bytes:
    if code is op.LITERAL:
        return _byte(argument)
    if code is op.NOT_LITERAL:
        return b"[^" + _byte(argument) + b"]"
    if code is op.ANY:
        return rb"[^\n]"
    if code is op.IN:
        return _class(argument)
    if code in _NOTHING:
        return b""
    if code is op.SUBPATTERN:
        _group, added, taken, inner = argument
        if taken:
            raise _UnknownError
        return (b"(?i:" if added & re.IGNORECASE else b"(?:") + _sequence(inner) + b")"
    if code is op.ATOMIC_GROUP:
        return b"(?:" + _sequence(argument) + b")"
    if code is op.BRANCH:
        return b"(?:" + b"|".join(_sequence(branch) for branch in argument[1]) + b")"
    if code in _REPEATS:
        least, most, inner = argument
        repeated = _sequence(inner)
        if not repeated:
            return b""
        least = min(least, _MOST_REQUIRED)
        return b"(?:%s){%d,%s}" % (repeated, least, b"" if most > _MOST_REPEATS else b"%d" % max(most, least))
    if code is op.GROUPREF:
        return rb"[^\n]*"
    raise _UnknownError


def _byte(code: int) -> bytes:
    if code > 0xFF:
        raise _UnknownError
    return rb"\x%02x" % code


def _class(items: Iterable[Any]) -> bytes:
    """A class; what regular expressions with letters folded add to it stays to the scanner's own flag."""
    negated, members = b"", b""
    for code, argument in items:
        if code is op.NEGATE:
            negated = b"^"
        elif code is op.LITERAL:
            members += _byte(argument)
        elif code is op.RANGE:
            members += _byte(argument[0]) + b"-" + _byte(argument[1])
        elif code is op.CATEGORY and argument in _CATEGORIES:
            members += _CATEGORIES[argument]
        else:
            raise _UnknownError
    return b"[" + negated + members + b"]"
