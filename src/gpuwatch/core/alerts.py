"""Alertmanager's alerts as notices: what its webhook sends (version 4), each alert told once and again when it is a reminder.

A group is sent whole whenever one alert in it changes; what was told within half an hour is not told again. Its words come from
whoever wrote the rules: they are bounded here and made safe where they are shown.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from gpuwatch.core.notices import Limit, Notice, notice_id
from gpuwatch.core.rules import SEVERITIES, Severity
from gpuwatch.errors import UsageError
from gpuwatch.texts import Text, text

VERSION = "4"
_REMIND = timedelta(minutes=30)
_MOST_ALERTS, _MOST_LABELS, _LONGEST = 1000, 64, 2000
_MOST_REMEMBERED = 10_000


@dataclass(slots=True)
class Relay:
    """Turns what Alertmanager sends into notices."""

    limit: Limit = field(default_factory=Limit)
    _told: OrderedDict[str, datetime] = field(default_factory=OrderedDict)

    def hear(self, document: Any, at: datetime) -> list[Notice]:
        """The notices of one request. Raises UsageError for what is not Alertmanager's."""
        told: list[Notice] = []
        for alert in _alerts_of(document):
            notice = _notice_of(alert, at)
            mark = f"{notice.key}-{notice.event}-{alert['starts_at']}"
            if (before := self._told.get(mark)) is not None and at - before < _REMIND:
                continue
            self._told[mark] = at
            self._told.move_to_end(mark)
            if len(self._told) > _MOST_REMEMBERED:
                self._told.popitem(last=False)
            told += self.limit.admit(notice, alert["labels"].get("alertname", "alert"))
        return told


def _alerts_of(document: Any) -> list[dict[str, Any]]:
    if not isinstance(document, dict) or not isinstance(document.get("alerts"), list):
        raise UsageError(text("that is no message of Alertmanager's: it has no list of alerts"))
    if document.get("version") != VERSION:
        raise UsageError(text("that is no message of version {version}, the only one that is read", version=VERSION))
    if len(document["alerts"]) > _MOST_ALERTS:
        raise UsageError(text("more than {most} alerts in one message; set max_alerts", most=_MOST_ALERTS))
    return [_alert_of(each) for each in document["alerts"]]


def _alert_of(each: Any) -> dict[str, Any]:
    if not isinstance(each, dict) or each.get("status") not in {"firing", "resolved"}:
        raise UsageError(text("an alert is neither firing nor resolved"))
    return {
        "status": each["status"],
        "labels": _words_of(each.get("labels")),
        "annotations": _words_of(each.get("annotations")),
        "starts_at": _word(each.get("startsAt")),
        "ends_at": _word(each.get("endsAt")),
        "fingerprint": _word(each.get("fingerprint")),
    }


def _words_of(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > _MOST_LABELS:
        raise UsageError(text("an alert's labels or annotations are missing, or too many"))
    return {_word(name): _word(words) for name, words in value.items()}


def _word(value: Any) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _notice_of(alert: dict[str, Any], at: datetime) -> Notice:
    labels, told = alert["labels"], alert["annotations"]
    name = labels.get("alertname", "")
    firing = alert["status"] == "firing"
    severity: Severity = next((each for each in SEVERITIES if each == labels.get("severity")), "error")
    key = alert["fingerprint"] or " ".join(f"{label}={value}" for label, value in sorted(labels.items()))[:200]
    details = [_both(told.get("description", ""), told.get("description_zh", ""))] if firing else []
    if firing and told.get("runbook_url"):
        details.append(text("What to do: {address}", address=told["runbook_url"]))
    return Notice(
        notice_id(key, alert["status"], f"{at.timestamp():.3f}"),
        "opened" if firing else "resolved",
        at,
        key,
        severity if firing else "info",
        _both(told.get("summary") or name, told.get("summary_zh") or told.get("summary") or name),
        labels.get("instance", ""),
        alert=alert,
        details=tuple(details),
    )


def _both(english: str, chinese: str) -> Text:
    return Text("{english}", {"english": english, "chinese": chinese}, zh="{chinese}" if chinese else "{english}")
