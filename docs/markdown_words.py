"""Words and tables as Markdown wants them."""

from __future__ import annotations

import re


def prose(words: str) -> str:
    """Words that Markdown leaves as they are."""
    return re.sub(r"([<*\[\]])", r"\\\1", words)


def cell(words: str) -> str:
    """Words for a table."""
    return prose(words).replace("|", "\\|")


def table_head(columns: str) -> list[str]:
    """The two lines that begin a table."""
    return [columns, "|" + "---|" * (columns.count("|") - 1)]
