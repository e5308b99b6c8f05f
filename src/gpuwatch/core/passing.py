"""Lines of an open failure that no rule speaks of, many at once: a traceback's frames, and what else follows.

The same as to read them one by one, in a fraction of the time. Where anything among them may mean more, none is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpuwatch.core.blocks import Block
from gpuwatch.core.gathering import Gathering
from gpuwatch.core.records import plain_text

INDENTED = re.compile(rb"(?:  [^\n]*\n)+")
"""The lines of frames, of a traceback that stands without a prefix."""
_FEWEST = 2
"""Of fewer lines, to look at each is no more work."""


def pass_frames(block: Block, members: Sequence[Gathering], found: re.Match[bytes], line: int) -> bool:
    """Take what INDENTED found in a traceback, the first of its lines being this one; False where none was taken.

    No prefix begins with a space, so each line is its record's text.
    """
    if any(member.lookahead for member in members):
        return False
    texts = found[0][:-1].split(b"\n")
    taken = block.read_frames(found[0], texts, line)
    for member in members if taken else ():
        member.quote_all(texts)
    return taken


def pass_rest(block: Block, members: Sequence[Gathering], lines: Sequence[bytes], line: int) -> int:
    """Take lines outside a traceback, the first of which is this one, until the failure is quiet: how many those are."""
    if any(member.lookahead for member in members):
        return 0
    near = lines[: block.lines_until_quiet(line)]
    if len(near) < _FEWEST:
        return 0
    texts = [text for text in map(plain_text, near) if text]
    if not block.read_rest(b"\n".join(texts)):
        return 0
    for member in members:
        member.quote_all(texts)
    return len(near)
