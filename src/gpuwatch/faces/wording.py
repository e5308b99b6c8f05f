"""The words and signs for severities, states, verdicts and safety, in one place so that every face says the same."""

from __future__ import annotations

from collections.abc import Mapping

from gpuwatch.core.diagnosis import Fits, Safety
from gpuwatch.core.incidents import IncidentState
from gpuwatch.core.rules import Severity
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
