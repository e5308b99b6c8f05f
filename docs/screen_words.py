"""A picture of the screen, its words made to stand where their cells are, whatever fonts the reader has."""

from __future__ import annotations

import html
import re

from rich.cells import cell_len

_CELL = 12.2
_FONTS = "'Fira Code', 'DejaVu Sans Mono', Menlo, Consolas, 'Noto Sans Mono CJK SC', 'PingFang SC', 'Microsoft YaHei', monospace"
_WORDS = re.compile(
    r'<text class="(?P<name>[\w-]+-r\d+)" x="(?P<x>[\d.]+)" y="(?P<y>[\d.]+)" textLength="[\d.]+" '
    r'clip-path="(?P<clip>[^"]+)">(?P<words>[^<]*)</text>'
)
_RUN = re.compile(
    r"[\u2800-\u28ff\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60]|[\xa0 ]+|"
    r"[^\u2800-\u28ff\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60\xa0 ]+"
)


def steadied(svg: str) -> str:
    """The picture without fonts from elsewhere, and with every word where its cells are.

    Rich asks for a web font and takes a Chinese character for one cell wide; without a font of the very same width words
    would drift.
    """
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("font-variant-east-asian: full-width;", "")
    svg = svg.replace("font-family: Fira Code, monospace", f"font-family: {_FONTS}")
    svg = re.sub(r"\bterminal-\d+", "screen", _WORDS.sub(runs, svg))
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


def runs(found: re.Match[str]) -> str:
    """A piece of text as words, with wide characters and curves one by one, each at its own place."""
    words, place, made = html.unescape(found["words"]), float(found["x"]), []
    for run in _RUN.findall(words):
        cells = cell_len(run)
        if run.strip("\N{NO-BREAK SPACE} "):
            name = f'<text class="{found["name"]}" x="{place:g}" y="{found["y"]}"'
            made.append(f'{name} textLength="{cells * _CELL:g}" clip-path="{found["clip"]}">{html.escape(run)}</text>')
        place += cells * _CELL
    return "".join(made)
