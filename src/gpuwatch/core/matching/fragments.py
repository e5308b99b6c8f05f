"""Few short fragments in the place of many literals: where a literal stands, one of its fragments stands.

A scanner that looks for a few hundred fragments is twice as fast as one that looks for all literals. So a log is looked through
for fragments, and only the lines that hold one for the literals. A fragment serves as many literals as it can, and is rare in
healthy logs.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection

from gpuwatch.core.matching.healthy import RARE, rarity

_SIZES = (7, 8)
"""Bytes of a fragment: shorter ones are found everywhere, of longer ones more are needed, and the scanner compares eight."""


def fragments_of(literals: Collection[bytes]) -> frozenset[bytes]:
    """Fragments, in lower case, one of which stands in each of the literals, letters in either case.

    A greedy set cover (Johnson 1974): the fragment that serves most literals first, the longer one of two. A literal with no
    rare fragment stands for itself.
    """
    wanted = sorted({literal.lower() for literal in literals})
    served: dict[bytes, set[int]] = defaultdict(set)
    for place, literal in enumerate(wanted):
        for size in _SIZES:
            for begin in range(len(literal) - size + 1):
                served[literal[begin : begin + size]].add(place)
    left = set(range(len(wanted)))
    chosen: set[bytes] = set()
    queue = [
        (-len(places), -len(fragment), fragment) for fragment, places in served.items() if rarity(fragment) == RARE
    ]
    heapq.heapify(queue)
    while queue and left:
        most, negative_size, fragment = heapq.heappop(queue)
        serves = len(served[fragment] & left)
        if serves < -most:  # others serve some of its literals by now
            if serves:
                heapq.heappush(queue, (-serves, negative_size, fragment))
            continue
        chosen.add(fragment)
        left -= served[fragment]
    return frozenset(chosen | {wanted[place] for place in left})
