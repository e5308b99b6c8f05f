"""Lines of an open failure that no rule speaks of, many at once: a traceback's frames, and what else follows.

The same as to read them one by one, in a fraction of the time. Where anything among them may mean more, none is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from gpuwatch.core.blocks import Block, Phase
from gpuwatch.core.gathering import Gathering
from gpuwatch.core.records import plain_text

_FEWEST = 2
"""Of fewer lines, to look at each is no more work."""


def pass_over(block: Block, members: Sequence[Gathering], lines: Sequence[bytes], line: int) -> int:
    """Take lines from this one on, as long as a traceback goes on, or until the failure is quiet: how many those are."""
    if any(member.lookahead for member in members):
        return 0
    if block.phase is Phase.TRACEBACK:
        # No prefix begins with a space: each line is its record's text.
        texts = list(takewhile(_is_indented, lines))
        taken = len(texts)
    else:
        near = lines[: block.lines_until_quiet(line)]
        texts = [text for text in map(plain_text, near) if text]
        taken = len(near)
    if taken < _FEWEST or not block.read_plain(texts, taken, line):
        return 0
    for member in members:
        member.quote_all(texts)
    return taken


def _is_indented(line: bytes) -> bool:
    return line.startswith(b"  ")
