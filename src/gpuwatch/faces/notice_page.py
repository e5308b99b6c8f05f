"""A notice as JSON for programs and as a few lines for people; both from the same value. docs/notifications.md has the shape."""

from __future__ import annotations

from typing import Any

from gpuwatch.core.notices import Notice
from gpuwatch.faces.report import incident_json
from gpuwatch.faces.wording import FITS, SEVERITY_SIGN, STATE
from gpuwatch.texts import Text, current, render, text, visible

VERSION = "1"
_LONGEST = 2000
_MOST_FIXES = 3


def notice_json(notice: Notice) -> dict[str, Any]:
    """The notice as it is posted. Words of a log are cut at 2,000 characters."""
    fix = notice.fix
    told = {
        "version": VERSION,
        "id": notice.id,
        "event": notice.event,
        "key": notice.key,
        "at": notice.at.isoformat(),
        "severity": notice.severity,
        "title": said(notice.title),
        "message": "\n".join(notice_lines(notice)),
        "language": current(),
        "host": notice.host,
        "source": notice.source,
        "incident": incident_json(notice.incident) if notice.incident is not None else None,
        "fix": {"action": fix.action, "outcome": fix.outcome, "server": fix.server, "job": fix.job_id} if fix else None,
        "alert": dict(notice.alert) if notice.alert is not None else None,
        "held_back": dict(notice.held_back),
    }
    cut: dict[str, Any] = _cut(told)
    return cut


def notice_lines(notice: Notice) -> list[str]:
    """The notice for a person, safe to print: what, where, why, what to do."""
    incident = notice.incident
    lines = [headline(notice)]
    host = notice.host if notice.alert is None else ""  # an alert says itself where it is from
    place = [words for words in (host, notice.source) if words]
    if incident is not None:
        place += [incident.node.type] if incident.node.type else []
        if notice.event == "resolved":
            place.append(render(STATE[incident.state]))
    if place:
        lines.append(said(" · ".join(place)))
    if notice.event in {"opened", "worker_dead"} and incident is not None and incident.diagnosis is not None:
        lines.append(said(incident.diagnosis.cause))
        for number, fix in enumerate(incident.diagnosis.fixes[:_MOST_FIXES], start=1):
            fits = f" [{render(FITS[fix.predicted.fits])}]" if fix.predicted is not None else ""
            lines.append(said(f"{number}. {render(fix.title)}{fits}"))
            if fix.command:
                lines.append(said(f"   {fix.command}"))
    lines += [said(words) for words in notice.details]
    lines += [said(f"{count} × {label}") for label, count in notice.held_back.items()]
    return [line for line in lines if line.strip()]


def headline(notice: Notice) -> str:
    """Its first line, with the sign of what it is."""
    title = said(notice.title)
    action = notice.fix.action if notice.fix is not None else ""
    words = {
        "resolved": text("over: {title}", title=title),
        "fix_held": text("{action} held: {title}", action=action, title=title),
        "fix_failed": text("{action} did not help: {title}", action=action, title=title),
    }.get(notice.event)
    sign = "✓" if notice.event in {"resolved", "fix_held"} else SEVERITY_SIGN[notice.severity]
    return f"{sign} {said(words) if words is not None else title}"


def said(words: Text | str) -> str:
    """One line in the language in use, nothing in it that a terminal obeys, of bounded length."""
    return visible(" ".join(render(words).split("\n")))[:_LONGEST]


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else value[:_LONGEST] + "…"
    if isinstance(value, dict):
        return {str(key): _cut(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(each) for each in value]
    return value
