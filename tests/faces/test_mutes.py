"""Mutes on the command line: `gpuwatch rules mute`, and what diagnose, the printer and the metrics make of a muted failure."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuwatch.core import mutes
from gpuwatch.core.engine import Engine
from gpuwatch.core.mutes import Mute, Mutes
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.reloads import MutesRefused, RulesLoaded, RulesRefused
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces import cli
from gpuwatch.faces.exporter import Page
from gpuwatch.faces.printing import Printer
from gpuwatch.texts import plain
from tests.faces.tui_story import ILLEGAL, OOM, RULES

pytestmark = pytest.mark.usefixtures("config")

AT = datetime(2026, 1, 1, tzinfo=UTC)
LOG = b"RuntimeError: CUDA error: an illegal memory access was encountered\n"


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "comfyui.log"
    path.write_bytes(LOG)
    return str(path)


def diagnosed(log: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[bool]]:
    """The exit code, and which incidents are muted."""
    code = cli.main(["diagnose", "--json", log])
    return code, [incident["muted"] for incident in json.loads(capsys.readouterr().out)["incidents"]]


@pytest.mark.parametrize(
    "words",
    [
        ["illegal-memory-access"],
        ["--label", "illegal_memory_access"],
        ["--pattern", "illegal memory .ccess"],
        ["illegal-memory-access", "--until", "2h", "--note", "known: it's ours"],
    ],
)
def test_muted_unmuted(log: str, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert diagnosed(log, capsys) == (1, [False])
    assert cli.main(["rules", "mute", *words]) == 0
    assert " is muted; " in capsys.readouterr().err
    assert diagnosed(log, capsys) == (0, [True])
    assert cli.main(["diagnose", log]) == 0
    shown = capsys.readouterr().out
    assert "settled · muted" in shown
    assert "1 muted; `gpuwatch rules mutes` lists why." in shown
    assert "Restart ComfyUI" not in shown
    assert cli.main(["rules", "unmute", *(words[:2] if words[0].startswith("--") else words[:1])]) == 0
    assert diagnosed(log, capsys) == (1, [False])


def test_another_failure_still_counts(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(log).write_bytes(LOG + b"RuntimeError: No CUDA GPUs are available\n")
    assert cli.main(["rules", "mute", "illegal-memory-access"]) == 0
    capsys.readouterr()
    assert diagnosed(log, capsys) == (1, [True, False])


def test_diagnose_says_when_a_pattern_was_too_slow_to_mute(
    log: str, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutes, "PATTERN_TIMEOUT_SECONDS", 0.001)
    Path(log).write_bytes(LOG.rstrip() + b" " + b"a" * 2000 + b"\n")
    (config / "mutes.yaml").write_text("- pattern: '(?:a|a)+b'\n")
    assert cli.main(["diagnose", "--json", log, log]) == 1
    told = capsys.readouterr()
    assert [json.loads(line)["incidents"][0]["muted"] for line in told.out.splitlines()] == [False, False]
    words = "its pattern takes too long; failures that it should mute are not muted."
    assert told.err == f"{config / 'mutes.yaml'}:1: {words}\n"


def test_what_is_muted_is_listed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rules", "mutes"]) == 0
    assert capsys.readouterr().out == f"Nothing is muted. The file is {config / 'mutes.yaml'}.\n"
    cli.main(["rules", "mute", "nan-output", "--source", "a.log", "--note", "\x1b[31mred"])
    path = config / "mutes.yaml"
    path.write_text(path.read_text() + "- label: xid\n  until: 2020-01-01\n")
    capsys.readouterr()
    assert cli.main(["rules", "mutes"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"rule nan-output  in a.log  ␛[31mred  ({config / 'mutes.yaml'}:3)"
    assert second.startswith("label xid  over since 2020-01-0")
    assert cli.main(["rules", "mutes", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["rule"], one["label"], one["over"]) for one in told] == [
        ("nan-output", None, False),
        (None, "xid", True),
    ]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["mute"], "name one of a rule, --label and --pattern."),
        (["mute", "nan-output", "--label", "xid"], "name one of a rule, --label and --pattern."),
        (["mute", "nan-outptu"], "there is no rule nan-outptu.\nIs one of these meant: nan-output"),
        (["mute", "--label", "xdi"], "`xdi` is not known; is `xid` meant?"),
        (["mute", "--pattern", "(a"], "the pattern does not compile"),
        (["mute", "--pattern", "a*"], "the pattern matches an empty line"),
        (["mute", "nan-output", "--until", "soon"], "soon is no time; write 30m, 2h, 3d"),
        (["mute", "nan-output", "--until", "2020-01-01"], "2020-01-01 is over already."),
        (["mute", "nan-output", "--until", "9999-12-31"], "9999-12-31 is no time;"),
        (["mute", "nan-output", "--note", ""], "--note: from 1 to 500 characters are wanted."),
        (["mute", "nan-output", "--source", "x" * 501], "--source: from 1 to 500 characters are wanted."),
        (["unmute", "nan-output"], "rule nan-output is not muted."),
    ],
)
def test_what_cannot_be_meant(config: Path, capsys: pytest.CaptureFixture[str], words: list[str], wanted: str) -> None:
    assert cli.main(["rules", *words]) == 2
    assert wanted in capsys.readouterr().err
    assert not (config / "mutes.yaml").exists()


def test_a_broken_file_is_told_with_its_place(config: Path, log: str, capsys: pytest.CaptureFixture[str]) -> None:
    (config / "mutes.yaml").write_text("- rule: a\n- rul: b\n")
    for words in (["diagnose", log], ["rules", "mute", "nan-output"], ["rules", "mutes"]):
        assert cli.main(words) == 2
        assert "mutes.yaml:2: `rul` is not known; is `rule` meant?" in capsys.readouterr().err


def test_the_printer_says_of_a_muted_failure_only_that_it_is() -> None:
    engine, snapshot = Engine(RULES, mutes=Mutes((Mute(rule="kernel"),))), Snapshot()
    printed = io.StringIO()
    with redirect_stdout(printed):
        printer = Printer()
        events = [*engine.feed(LogChunk(AT, "a.log", ILLEGAL * 3 + OOM)), *engine.end(AT)]
        for event in events:
            snapshot = snapshot.after(event)
        printer(events, snapshot)
    lines = printed.getvalue().splitlines()
    assert [line for line in lines if "A kernel strayed" in line] == [lines[0]]
    assert lines[0].endswith(" · muted")
    assert "The process is poisoned." not in printed.getvalue()
    assert "GPU memory ran out" in printed.getvalue()


def metrics(snapshot: Snapshot) -> dict[str, float]:
    lines = Page(lambda: snapshot, RULES).text().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines) if not name.startswith("#")
    }


def test_the_metrics_of_mutes_and_reloads() -> None:
    engine, snapshot = Engine(RULES, mutes=Mutes((Mute(rule="kernel"),))), Snapshot()
    before = metrics(snapshot)
    assert before['gpuwatch_incidents_muted_total{label="poisoned_context"}'] == 0
    assert before['gpuwatch_incidents_total{label="crash_loop",severity="error"}'] == 0
    assert before["gpuwatch_rules_last_reload_success"] == 1
    assert "gpuwatch_rules_last_reload_success_timestamp_seconds" not in before
    observations = [
        LogChunk(AT, "a.log", ILLEGAL + OOM),
        RulesLoaded(AT, RULES, engine.matcher),
        RulesRefused(AT, plain("no")),
        MutesRefused(AT, plain("no")),
    ]
    events = [event for one in observations for event in engine.feed(one)] + engine.end(AT)
    for event in events:
        snapshot = snapshot.after(event)
    after = metrics(snapshot)
    assert after['gpuwatch_incidents_muted_total{label="illegal_memory_access"}'] == 1
    assert after['gpuwatch_incidents_total{label="illegal_memory_access",severity="critical"}'] == 1
    assert after['gpuwatch_incident_active{label="illegal_memory_access"}'] == 0
    assert after['gpuwatch_incident_active{label="cuda_oom"}'] == 1
    assert after["gpuwatch_rules_last_reload_success"] == after["gpuwatch_mutes_last_reload_success"] == 0
    assert after["gpuwatch_rules_last_reload_success_timestamp_seconds"] == AT.timestamp()
