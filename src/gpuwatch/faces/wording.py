"""The words and signs for severities, states, verdicts and safety, in one place so that every face says the same."""

from __future__ import annotations

from collections.abc import Mapping

from gpuwatch.core.diagnosis import Fits, Safety
from gpuwatch.core.incidents import IncidentState
from gpuwatch.core.observations import FixTried
from gpuwatch.core.rules import QUEUE_AGAIN, Severity
from gpuwatch.texts import Text, text

SEVERITY_SIGN: Mapping[Severity, str] = {"info": "·", "warning": "▲", "error": "✗", "critical": "✖"}
STATE: Mapping[IncidentState, Text] = {
    "open": text("open"),
    "settled": text("settled"),
    "recovered": text("recovered"),
    "cleared": text("cleared"),
}
MUTED = text("muted")
FITS: Mapping[Fits, Text] = {"yes": text("fits"), "no": text("does not fit"), "uncertain": text("may not fit")}
SAFETY: Mapping[Safety, Text] = {
    "safe": text("safe"),
    "restarts": text("needs a restart"),
    "changes_output": text("changes the picture"),
}


def held_words(tried: FixTried, time: str) -> Text:
    """That a fix held: when, and what was set for it."""
    what = ", ".join(_set_by(tried, name, value) for name, value in tried.after.items())
    unchanged = text("queued again as it was") if tried.action == QUEUE_AGAIN else text("memory was freed first")
    return text("It held at {time}: {what}", time=time, what=what or unchanged)


def _set_by(tried: FixTried, name: str, value: object) -> str:
    before = tried.before.get(name)
    return f"{name} {value}" if before is None else f"{name} {before} → {value}"
