"""What Alertmanager sends, as notices: each alert once, reminders too, nothing that is not its own."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from gpuwatch.core.alerts import Relay
from gpuwatch.core.notices import BURST, Bucket, Limit
from gpuwatch.errors import UsageError
from gpuwatch.texts import render
from tests.core.cases import AT

MINUTE = timedelta(minutes=1)


def alert(number: int = 1, status: str = "firing", **labels: str) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": "GpuwatchFailure", "severity": "warning", "instance": "box:9877", **labels},
        "annotations": {
            "summary": "cuda_oom on box", "summary_zh": "box 上发生 cuda_oom", "description": "See.",
            "runbook_url": "https://wiki.example/r#gpuwatchfailure",
        },
        "startsAt": "2026-11-21T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": f"f{number}",
    }  # fmt: skip


def message(*alerts: Any, **more: Any) -> dict[str, Any]:
    return {"version": "4", "status": "firing", "receiver": "channel", "alerts": list(alerts), **more}


def test_an_alert_and_its_end_are_two_notices_with_one_key() -> None:
    relay = Relay()
    (opened,) = relay.hear(message(alert()), AT)
    assert (opened.event, opened.key, opened.severity, opened.source) == ("opened", "f1", "warning", "box:9877")
    assert render(opened.title, "en") == "cuda_oom on box"
    assert render(opened.title, "zh") == "box 上发生 cuda_oom"
    assert [render(words, "en") for words in opened.details] == [
        "See.", "What to do: https://wiki.example/r#gpuwatchfailure"
    ]  # fmt: skip
    assert opened.alert is not None
    assert opened.alert["labels"]["alertname"] == "GpuwatchFailure"
    (resolved,) = relay.hear(message(alert(status="resolved")), AT + MINUTE)
    assert (resolved.event, resolved.key) == ("resolved", "f1")
    assert resolved.id != opened.id


def test_a_group_sent_again_tells_only_what_is_new_and_later_it_is_a_reminder() -> None:
    relay = Relay()
    relay.hear(message(alert(1)), AT)
    assert [told.key for told in relay.hear(message(alert(1), alert(2)), AT + 5 * MINUTE)] == ["f2"]
    (again,) = relay.hear(message(alert(1)), AT + 60 * MINUTE)
    assert again.key == "f1"


def test_alerts_without_words_still_say_which_they_are() -> None:
    bare = {"status": "firing", "labels": {"alertname": "Down", "severity": "page"}, "annotations": {}}
    (told,) = Relay().hear(message(bare), AT)
    assert (render(told.title, "zh"), told.severity) == ("Down", "error")
    assert told.key == "alertname=Down severity=page"


def test_a_storm_of_alerts_is_held_back() -> None:
    relay = Relay(Limit(Bucket()))
    told = relay.hear(message(*(alert(number) for number in range(1000))), AT)
    assert len(told) == BURST
    (rest,) = relay.limit.rest(AT)
    assert rest.held_back == {"GpuwatchFailure": 990}


@pytest.mark.parametrize(
    "document",
    [
        None, [], "x", 4, {}, {"alerts": {}}, {"version": "4"}, message(version="3"), message(version=4), message(None),
        message({}), message({"status": "firing"}), message({**alert(), "status": "odd"}),
        message({**alert(), "labels": None}), message({**alert(), "labels": {str(n): "" for n in range(65)}}),
        message(*[alert()] * 1001),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_alertmanagers_is_refused(document: Any) -> None:
    with pytest.raises(UsageError):
        Relay().hear(document, AT)


def test_odd_values_are_bounded_and_do_no_harm() -> None:
    odd = alert(1, note="x" * 100_000)
    odd["labels"]["number"] = 7
    odd["annotations"] = {"summary": "\x1b[2J" * 10_000}
    odd["fingerprint"] = None
    (told,) = Relay().hear(message(odd), AT)
    assert told.alert is not None
    assert max(len(words) for words in told.alert["labels"].values()) == 2000
    assert told.alert["labels"]["number"] == ""


def test_an_id_may_stand_in_a_header_whatever_the_alert_is_called() -> None:
    told = [
        *Relay().hear(message({**alert(), "fingerprint": "f\r\nHost: evil 显存"}), AT),
        *Relay().hear(message(alert()), AT),
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,100}", notice.id) for notice in told)
