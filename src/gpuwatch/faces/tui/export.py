"""What leaves the screen: a failure as a page of Markdown, and copied lines as a file beside the terminal's clipboard."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from gpuwatch.adapters.whole_file import write_whole
from gpuwatch.core.incidents import Incident
from gpuwatch.errors import GpuwatchError
from gpuwatch.faces.tui.wording import FITS, fact_name, fact_value, node_of, said, state_of
from gpuwatch.settings import state_folder
from gpuwatch.texts import render, show_bytes, text, visible
from gpuwatch.texts import translate as _

_MOST_NAMES = 1_000


def export_incident(incident: Incident, folder: Path | None = None) -> Path:
    """Write the failure to a new file in the working folder, or where that cannot be written, in the state folder."""
    stem = (
        f"gpuwatch-{re.sub('[^a-z0-9]+', '-', incident.label.lower())}-{incident.first_at.astimezone():%Y%m%d-%H%M%S}"
    )
    page = incident_page(incident).encode()
    here = folder or Path.cwd()
    try:
        path = free_name(here, stem)
        write_whole(path, page)
    except GpuwatchError:
        other = own_folder()
        if other is None:
            raise
        path = free_name(other, stem)
        write_whole(path, page)
    return path


def free_name(folder: Path, stem: str) -> Path:
    """A name in the folder that is not taken."""
    names = (folder / f"{stem}{f'-{number}' if number else ''}.md" for number in range(_MOST_NAMES))
    return next((path for path in names if not os.path.lexists(path)), folder / f"{stem}-{os.getpid()}.md")


def own_folder() -> Path | None:
    """The state folder, made where it was not there; None where there can be none."""
    folder = state_folder()
    with suppress(OSError):
        if folder is not None:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return folder
    return None


def copied_file(words: str) -> Path | None:
    """Write copied lines where a terminal that keeps its clipboard to itself does not lose them; None where that fails."""
    folder = own_folder()
    if folder is None:
        return None
    try:
        write_whole(folder / "copied.txt", words.encode(), mode=0o600)
    except GpuwatchError:
        return None
    return folder / "copied.txt"


def incident_page(incident: Incident) -> str:
    """The failure as Markdown: for an issue, a chat, a colleague."""
    lines = [f"# {said(incident.title)}", ""]
    node = node_of(incident)
    source = visible(incident.source)
    place = (
        render(text("line {line} of {source}", line=f"{incident.line:,}", source=source)) if incident.line else source
    )
    told = [incident.severity, state_of(incident), place, node, f"×{incident.count}" if incident.count > 1 else ""]
    lines += [
        " · ".join(word for word in told if word),
        f"{incident.first_at.isoformat()} – {incident.last_at.isoformat()}"
        if incident.fresh  # when it was is not known: what came with it is only when we read of it
        else _("from before gpuwatch was started"),
        "",
    ]
    diagnosis = incident.diagnosis
    lines += [said(diagnosis.cause if diagnosis is not None else incident.rule.why), ""]
    if diagnosis is not None and diagnosis.fixes:
        lines += [f"## {_('What helps')}", ""]
        for number, fix in enumerate(diagnosis.fixes, 1):
            lines.append(f"{number}. {said(fix.title)}")
            if fix.predicted is not None:
                verdict = render(FITS[fix.predicted.fits][1])
                lines.append(
                    f"   {render(text('needs up to {need}', need=show_bytes(fix.predicted.peak_bytes)))}: {verdict}"
                )
            if fix.command:
                lines.append(f"   `{fix.command}`")
        lines.append("")
    if incident.facts:
        lines += [f"## {_('The numbers')}", ""]
        lines += [f"- {fact_name(name)}: {fact_value(name, value)}" for name, value in incident.facts.items()]
        lines.append("")
    if diagnosis is not None and diagnosis.evidence:
        lines += [f"## {_('What this rests on')}", "", *(f"- {said(one)}" for one in diagnosis.evidence), ""]
    if incident.excerpt:
        lines += [
            f"## {_('From the log')}",
            "",
            "```",
            *(visible(line).replace("```", "'''") for line in incident.excerpt),
            "```",
        ]
    return "\n".join(lines) + "\n"
