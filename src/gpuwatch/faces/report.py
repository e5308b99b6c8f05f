"""A diagnosis as JSON for programs and as a page for people; both from the same incident."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TextIO

from gpuwatch.core.diagnosis import Fix
from gpuwatch.core.incidents import Incident
from gpuwatch.faces.wording import FITS, MUTED, SAFETY, SEVERITY_SIGN, STATE
from gpuwatch.texts import render, text, visible

if TYPE_CHECKING:
    from rich.console import Console

_PAGE_COLUMNS = 100
COLOURS = {"info": "blue", "warning": "yellow", "error": "red", "critical": "bold red"}


_UNSAFE = re.compile("[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def json_line(value: object) -> str:
    """A value as one line of JSON that no terminal obeys: what is invisible or turns the direction of writing is escaped."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def incident_json(incident: Incident) -> dict[str, Any]:
    """The incident as `diagnose --json` gives it."""
    node = incident.node
    diagnosis = incident.diagnosis
    return {
        "id": incident.id,
        "rule": incident.rule.id,
        "label": incident.label,
        "severity": incident.severity,
        "state": incident.state,
        "fix_outcome": incident.fix_outcome,
        "line": incident.line,
        "count": incident.count,
        "text": incident.text,
        "facts": dict(incident.facts),
        "node": {"id": node.id, "type": node.type} if node.id or node.type else None,
        "title": render(incident.title),
        "cause": render(diagnosis.cause) if diagnosis else "",
        "confidence": diagnosis.confidence if diagnosis else 0.0,
        "evidence": [render(line) for line in diagnosis.evidence] if diagnosis else [],
        "fixes": [fix_json(fix) for fix in diagnosis.fixes] if diagnosis else [],
        "muted": incident.muted,
        "members": list(incident.members),
        "worker_dead": incident.worker_dead,
    }


def fix_json(fix: Fix) -> dict[str, Any]:
    """The fix as `diagnose --json` gives it."""
    return {
        "action": fix.action,
        "title": render(fix.title),
        "safety": fix.safety,
        "params": dict(fix.params),
        "predicted": {"peak_bytes": fix.predicted.peak_bytes, "fits": fix.predicted.fits} if fix.predicted else None,
        "command": fix.command,
        "note": render(fix.note) if fix.note else None,
    }


def print_incident(console: Console, incident: Incident) -> None:
    """Print the incident for a person. A command stands on one line, however long, so that it can be copied."""
    from rich.text import Text as Line  # noqa: PLC0415 - only where a person reads

    def put(words: str | Line, style: str = "", *, indent: int = 2) -> None:
        line = Line(visible(words), style) if isinstance(words, str) else words
        for row in line.wrap(console, max(console.width - indent, 1)):
            row.rstrip()
            console.print(Line(" " * indent).append_text(row))

    put(head_line(incident), indent=0)
    diagnosis = incident.diagnosis
    if diagnosis is None or incident.muted:
        return
    put(render(diagnosis.cause))
    for number, fix in enumerate(diagnosis.fixes, start=1):
        put(fix_line(number, fix))
        if fix.command:
            console.print(f"     {visible(fix.command)}", style="cyan", soft_wrap=True)
        if fix.note:
            put(render(fix.note), "dim", indent=5)
    for line in diagnosis.evidence:
        put(render(line), "dim")


def head_line(incident: Incident) -> Any:
    """Sign, title, node, how often, where, state."""
    from rich.text import Text as Line  # noqa: PLC0415

    head = Line(f"{SEVERITY_SIGN[incident.severity]} ", COLOURS[incident.severity])
    head.append(visible(render(incident.title)), "bold")
    node = incident.node
    named = f"{node.type} #{node.id}" if node.type and node.id else node.type
    for words in (named, f"×{incident.count}" if incident.count > 1 else None):
        if words:
            head.append(f"  {visible(words)}", "cyan")
    place = f"{render(text('line {line}', line=incident.line))} · " if incident.line else ""  # a queue has no lines
    head.append(f"  {place}{render(STATE[incident.state])}", "dim")
    if incident.muted:
        head.append(f" · {render(MUTED)}", "dim")
    return head


def console_for(stream: TextIO) -> Console:
    """A console that prints pages: as wide as the terminal, or a page's width where there is none; colours only on a terminal."""
    from rich.console import Console  # noqa: PLC0415 - only where a person reads

    class Page(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # the command line ends quietly, not only the thread that printed

        def render_str(self, text: str, **options: Any) -> Any:
            """Words as they are printed; other programs' may be among them, so nothing in them is obeyed."""
            return super().render_str("\n".join(map(visible, text.split("\n"))), **options)

    width = None if stream.isatty() else _PAGE_COLUMNS
    return Page(file=stream, highlight=False, markup=False, emoji=False, width=width)


def fix_line(number: int, fix: Fix) -> Any:
    """One fix on a line: what, whether it fits, what it costs."""
    from rich.text import Text as Line  # noqa: PLC0415

    line = Line(f"{number}. ", "bold green")
    line.append(visible(render(fix.title)))
    marks = [render(SAFETY[fix.safety])]
    if fix.predicted is not None:
        marks.insert(0, render(FITS[fix.predicted.fits]))
    line.append(f"  [{', '.join(marks)}]", "dim")
    return line
