"""The literals that any match of a pattern must contain, found by walking the pattern's parse tree.

The set is a prefilter: a record with none of the literals cannot match, a record with one may. Only what is surely required
counts; an empty set means that nothing could be derived and the pattern must always be tried. What stands side by side is
multiplied out (`cuda[ _]error` -> `cuda error`, `cuda_error`), for a long literal is rarer than its parts.
"""

from __future__ import annotations

import re
import re._constants as op
from collections.abc import Iterable
from typing import Any

from gpuwatch.core.matching.healthy import rarity
from gpuwatch.core.matching.syntax import tree_of

_SHORTEST = 3
_MOST_ALTERNATIVES = 64
_LONG_ENOUGH = 16
"""Beyond this, fewer alternatives are worth more than longer ones."""
_FOLDING = re.compile(rb"\(\?[a-zA-Z]*i")
_REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_ZERO_WIDTH = (op.AT, op.ASSERT, op.ASSERT_NOT)
_NOTHING = frozenset({b""})

Literals = frozenset[bytes]


def required_literals(pattern: bytes) -> Literals:
    """Literals, one of which stands in every match, letters in either case; empty where none can be derived."""
    tree = tree_of(pattern)
    if tree is None:
        return frozenset()
    found: list[Literals] = []
    _walk(tree, found)
    return max(found, key=_worth, default=frozenset())


def folds_case(pattern: bytes) -> bool:
    """Whether any part of the pattern takes letters in either case. Rules are bytes patterns: ASCII letters only."""
    return _FOLDING.search(pattern) is not None


def _worth(literals: Literals) -> tuple[int, int, int]:
    """How telling a set is: by its commonest member, then its shortest, runs of space counted once, then by how few they are."""
    shortest = min(len(b" ".join(literal.split())) for literal in literals)
    return min(map(rarity, literals)), min(shortest, _LONG_ENOUGH), -len(literals)


def _walk(tree: Iterable[Any], found: list[Literals]) -> Literals | None:
    """Add to `found` the sets that the sequence requires; give all that it can match, where that is not too much."""
    runs, whole = _NOTHING, True
    for code, argument in tree:
        again = code in _REPEATS and argument[1] > 1
        inner: list[Literals] = []
        exact = _exact(code, argument, inner)
        if exact is not None and len(exact) > 1:
            _keep(runs, found)  # the product may be worth less
        if exact is not None and len(runs) * len(exact) <= _MOST_ALTERNATIVES:
            runs = frozenset(before + after for before in runs for after in exact)
        else:
            _keep(runs, found)
            found += inner
            runs, whole = exact or _NOTHING, False
        if again:
            _keep(runs, found)
            runs, whole = exact or _NOTHING, False
    _keep(runs, found)
    return runs if whole else None


def _keep(literals: Literals, found: list[Literals]) -> None:
    """Add the set, without members that hold another, if all its members are long enough."""
    if min(map(len, literals)) >= _SHORTEST:
        found.append(frozenset(one for one in literals if not any(other != one and other in one for other in literals)))


def _exact(code: Any, argument: Any, found: list[Literals]) -> Literals | None:
    """All that one node can match, once where it repeats; None where that is too much. Adds what it requires to `found`."""
    if code is op.LITERAL and argument < 256:
        return frozenset({bytes((argument,))})
    if code in _ZERO_WIDTH:
        return _NOTHING
    if code is op.IN:
        plain = all(kind is op.LITERAL and value < 256 for kind, value in argument)
        return frozenset(bytes((value,)) for _, value in argument) if plain and len(argument) <= 4 else None
    if code is op.SUBPATTERN:
        return _walk(argument[3], found)
    if code is op.ATOMIC_GROUP:
        return _walk(argument, found)
    if code is op.BRANCH:
        return _branches(argument[1], found)
    if code in _REPEATS:
        least, most, repeated = argument
        if least == 0:
            exact = _walk(repeated, [])
            return exact | _NOTHING if exact is not None and most == 1 else None
        return _walk(repeated, found)
    return None


def _branches(branches: Iterable[Any], found: list[Literals]) -> Literals | None:
    """What any of the branches matches; a set that they require is one of each."""
    every: list[list[Literals]] = []
    exacts = []
    for branch in branches:
        every.append([])
        exacts.append(_walk(branch, every[-1]))
    if all(every):
        union = frozenset().union(*(max(sets, key=_worth) for sets in every))
        if len(union) <= _MOST_ALTERNATIVES:
            _keep(union, found)
    known = [exact for exact in exacts if exact is not None]
    union = frozenset().union(*known)
    return union if len(known) == len(exacts) and len(union) <= _MOST_ALTERNATIVES else None
