"""The literals that any match of a pattern must contain, found by walking the pattern's parse tree.

The set is a prefilter: a record with none of the literals cannot match, a record with one may. Only what is surely required
counts; an empty set means that nothing could be derived and the pattern must always be tried.
"""

from __future__ import annotations

import re
import re._constants as op
from collections.abc import Iterable
from typing import Any

from gpuwatch.core.matching.syntax import tree_of

_SHORTEST = 3
_MOST_ALTERNATIVES = 24
_TELLING = 9
_PLAIN_WORDS = re.compile(rb"[A-Za-z_ ]+")
_FOLDING = re.compile(rb"\(\?[a-zA-Z]*i")


def required_literals(pattern: bytes) -> frozenset[bytes]:
    """Literals, one of which stands in every match, letters in either case; empty where none can be derived."""
    tree = tree_of(pattern)
    return frozenset() if tree is None else best_set(tree)


def folds_case(pattern: bytes) -> bool:
    """Whether any part of the pattern takes letters in either case. Rules are bytes patterns: ASCII letters only."""
    return _FOLDING.search(pattern) is not None


def best_set(tree: Iterable[Any]) -> frozenset[bytes]:
    """The most telling set of alternatives among those that the sequence requires."""
    candidates: list[frozenset[bytes]] = []
    run = bytearray()

    def end_run() -> None:
        if len(run) >= _SHORTEST:
            candidates.append(frozenset({bytes(run)}))
        run.clear()

    for code, argument in tree:
        if code is op.LITERAL and argument < 256:
            run.append(argument)
            continue
        if code is op.IN and len(argument) == 1 and argument[0][0] is op.LITERAL:
            run.append(argument[0][1])
            continue
        end_run()
        found: frozenset[bytes] = frozenset()
        if code is op.SUBPATTERN:
            found = best_set(argument[3])
        elif code is op.ATOMIC_GROUP:
            found = best_set(argument)
        elif code is op.BRANCH:
            sets = [best_set(branch) for branch in argument[1]]
            if all(sets):
                found = frozenset().union(*sets)
        elif code in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT) and argument[0] >= 1:
            found = best_set(argument[2])
        if found and len(found) <= _MOST_ALTERNATIVES:
            candidates.append(found)
    end_run()
    return max(candidates, key=lambda literals: (min(map(rarity, literals)), -len(literals)), default=frozenset())


def rarity(literal: bytes) -> int:
    """How telling a literal is: its length, runs of space counted once."""
    return len(b" ".join(literal.split()))


def is_telling(literal: bytes) -> bool:
    """Whether a literal is rare enough in a healthy log to stand for its pattern: long, or nearly and no plain words."""
    return len(literal) >= _TELLING or (len(literal) == _TELLING - 1 and not _PLAIN_WORDS.fullmatch(literal))
