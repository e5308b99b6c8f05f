"""Which terminal the screen is drawn on: the one that standard output is.

Textual draws on standard error. Where a person sends that to a file to keep what programs say there, the screen would go into
the file and the terminal stay blank.
"""

from __future__ import annotations

import os
import sys


def draw_on_output() -> None:
    """Have Textual draw on standard output's terminal; what is said on standard error goes where it went."""
    output, errors = sys.__stdout__, sys.__stderr__
    if sys.platform == "win32" or output is None or not output.isatty():
        return
    try:
        if errors is not None and errors.isatty() and os.ttyname(errors.fileno()) == os.ttyname(output.fileno()):
            return
    except OSError:  # a terminal without a name, as in some containers
        return
    drawn = os.dup(output.fileno())
    sys.__stderr__ = os.fdopen(drawn, "w", encoding=output.encoding, errors="replace")  # type: ignore[misc]  # Textual's choice
