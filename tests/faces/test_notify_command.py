"""`gpuwatch notify`, `--notify` of the verbs that watch, the bell, and the pages about them."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.webhook import signature
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.notices import NOTICE_OUTCOMES, Notice, Teller
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces import cli
from gpuwatch.faces.commands import notify
from gpuwatch.faces.notice_page import notice_json, notice_lines
from gpuwatch.faces.notifying import Desk, Ringer
from gpuwatch.faces.sending import open_outboxes
from gpuwatch.texts import render, text
from tests.adapters.receiver import SECONDS, hook
from tests.core.cases import AT
from tests.core.test_alerts import alert, message
from tests.faces.test_serve import GPUWATCH, OOM, ended, lines, serve

DOCS = Path(__file__).parents[2] / "docs"
SECRET = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of these tests alone


def test_a_test_says_what_came_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o640)
    with hook() as there:
        assert cli.main(["notify", f"{there.address}/KEY", "--test", "--secret-file", str(tmp_path / "secret")]) == 0
    said = capsys.readouterr()
    assert "HTTP 200" in said.out
    assert "KEY" not in said.out + said.err
    assert "chmod 600" in said.err
    (got,) = there.got
    assert (got.json["event"], got.path) == ("test", "/KEY")
    assert "webhook-signature" in got.headers


@pytest.mark.parametrize(("status", "code"), [(200, 0), (404, 4), (302, 4), (500, 3)])
def test_its_exit_code_says_how_it_went(status: int, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with hook(always=(status, {}, b"words")) as there:
        assert cli.main(["notify", there.address, "--test", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["status"] == status
    assert told["outcome"] == {0: "delivered", 4: "refused", 3: "later"}[code]


@pytest.mark.parametrize(
    "words",
    [
        [], ["--test"], ["http://x"], ["http://x", "--test", "--to", "http://y"], ["--listen", "127.0.0.1:0"],
        ["http://x", "--test", "--listen", "127.0.0.1:0"], ["--listen", "nonsense", "--to", "http://x"],
        ["gopher://x/KEY", "--test"], ["--listen", "127.0.0.1:0", "--to", "KEY"],
        ["http://x", "--test", "--secret-file", "/nonexistent"], ["http://x", "--test", "--format", "telegram"],
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["notify", *words]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "KEY" not in said


def test_alerts_are_passed_on_until_it_is_stopped(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open-sesame\n")
    with hook() as there:
        arguments = argparse.Namespace(
            listen=("127.0.0.1", 0), to=[there.address], token_file=str(tmp_path / "token"), json=False,
            notify_format="json", notify_secret_file=None, log_format="text",
        )  # fmt: skip
        stop, said = threading.Event(), threading.Event()
        address: list[str] = []

        def say(words: Any, **_fields: Any) -> None:
            address.extend(re.findall(r"http://\S+", render(words)))
            said.set()

        thread = threading.Thread(target=notify.pass_on, args=(arguments, stop, say), daemon=True)
        thread.start()
        assert said.wait(SECONDS)
        request = urllib.request.Request(  # noqa: S310 - our own address
            address[0],
            json.dumps(message(alert())).encode(),
            {"Authorization": "Bearer open-sesame", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            assert answer.status == 200
        there.wait(1)
        stop.set()
        thread.join(SECONDS)
    assert there.got[0].json["alert"]["fingerprint"] == "f1"
    assert "cuda_oom on box" in capsys.readouterr().out


def test_a_full_queue_has_alertmanager_try_again() -> None:
    with hook(hold=threading.Event()) as there:
        outboxes = open_outboxes([there.address], namespace(), print)
        desk = notify.AlertDesk(notify_relay(), outboxes, as_json=False)
        answers = [desk.take(message(*(alert(n * 50 + m) for m in range(50)))) for n in range(20)]
        for outbox in outboxes:
            for _ in range(200):
                outbox.post(Notice("x", "test", AT, "", "info", text("words")))
        assert desk.take(message(alert(9999))) is False
        assert there.hold is not None
        there.hold.set()
        for outbox in outboxes:
            outbox.close(SECONDS)
    assert answers[0] is True


def notify_relay() -> Any:
    from gpuwatch.core.alerts import Relay  # noqa: PLC0415

    return Relay()


def namespace(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"notify_format": "auto", "notify_secret_file": None, "json": False} | more)


# -- the verbs that watch --------------------------------------------------------------------------------------------------


def test_serve_tells_a_webhook_and_counts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUWATCH_NOTIFY_SECRET", SECRET)
    log = tmp_path / "comfyui.log"
    log.write_bytes(OOM)
    with hook() as there:
        words = [
            str(log),
            "--from-start",
            "--no-journal",
            "--listen",
            "127.0.0.1:0",
            "--notify",
            f"{there.address}/KEY",
        ]
        with serve(*words) as child:
            said = list(lines(child, "metrics: "))
            (got,) = there.wait(1)
            address = said[-1].split()[-1]
            page = until_delivered(address)
            assert ended(child) == 0
    assert got.json["event"] == "opened"
    assert got.json["incident"]["label"] == "cuda_oom"
    assert got.json["key"] == got.json["incident"]["id"]
    at = datetime.fromtimestamp(int(got.headers["webhook-timestamp"]), UTC)
    assert (
        signature(got.json["id"], at, got.body, SECRET.encode())["webhook-signature"]
        == got.headers["webhook-signature"]
    )
    assert {
        f'gpuwatch_notifications_total{{outcome="{outcome}"}} {int(outcome == "delivered")}'
        for outcome in NOTICE_OUTCOMES
    } <= {line.removesuffix(".0") for line in page.splitlines()}
    assert not [line for line in said if "KEY" in line]


def until_delivered(address: str) -> str:
    """The page once the answer was counted, too: it is, a moment after it was sent."""
    pause = threading.Event()
    for _ in range(SECONDS * 20):
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:  # noqa: S310 - our own address
            page: str = answer.read().decode()
        if 'outcome="delivered"} 1' in page:
            return page
        pause.wait(0.05)
    raise AssertionError("no notice was counted")


def test_a_restart_with_its_journal_tells_nothing_twice(tmp_path: Path) -> None:
    log, journal = tmp_path / "comfyui.log", tmp_path / "journal.db"
    log.write_bytes(OOM)
    with hook() as there:
        words = [
            str(log),
            "--from-start",
            "--journal",
            str(journal),
            "--listen",
            "127.0.0.1:0",
            "--notify",
            there.address,
        ]
        for number in (1, 2):
            with serve(*words) as child:
                there.wait(number)
                assert ended(child) == 0
            with log.open("ab") as file:
                file.write(b"Prompt executed in 0.10 seconds\ngot prompt\n" + OOM)
    opened = [got.json["id"] for got in there.got if got.json["event"] == "opened"]
    assert len(opened) == len(set(opened)) == 2


def test_a_dead_address_does_not_keep_serve_from_watching_or_ending(tmp_path: Path) -> None:
    log = tmp_path / "comfyui.log"
    log.write_bytes(OOM)
    with serve(
        str(log), "--from-start", "--no-journal", "--listen", "127.0.0.1:0", "--notify", "http://127.0.0.1:1/KEY"
    ) as child:
        assert child.stdout is not None
        assert "GPU memory ran out" in child.stdout.readline()
        told = list(lines(child, "do not reach"))[-1]
        child.send_signal(signal.SIGTERM)
        rest = child.communicate(timeout=SECONDS)[1]
        assert child.returncode == 0
    assert "http://127.0.0.1:1/…" in told
    assert "127.0.0.1:1/…: 1." in rest
    assert "KEY" not in told + rest


@pytest.mark.parametrize(
    "words", [["--notify", "gopher://KEY"], ["--notify-secret-file", "/nonexistent"], ["--notify", "@/nonexistent"]]
)
def test_the_verbs_refuse_what_cannot_be_used_before_they_watch(words: list[str], tmp_path: Path) -> None:
    log = tmp_path / "comfyui.log"
    log.write_bytes(OOM)
    command = [*GPUWATCH, "serve", str(log), "--listen", "127.0.0.1:0", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "KEY" not in done.stderr


def test_a_desk_makes_notices_of_an_engines_events() -> None:
    engine = Engine(load_rules(), load_workloads())
    told: list[Notice] = []
    desk = Desk(Teller(), lambda *_words, **_more: None)
    desk.ring = told.append
    snapshot = Snapshot()
    log = OOM + b"Prompt executed in 0.10 seconds\ngot prompt\nPrompt executed in 0.20 seconds\n"
    for events in ([*engine.feed(LogChunk(AT, "comfyui.log", log))], [*engine.end(AT + timedelta(seconds=9))]):
        for event in events:
            snapshot = snapshot.after(event)
        desk(events, snapshot)
    desk.close()
    assert told[0].event == "opened"
    assert told[0].incident is not None
    assert desk.counts() == dict.fromkeys(NOTICE_OUTCOMES, 0)


# -- the bell --------------------------------------------------------------------------------------------------------------


def notice(event: Any = "opened", words: str = "GPU memory ran out", number: int = 0) -> Notice:
    return Notice(f"n{number}", event, AT, "n", "error", text("{words}", words=words))


def rung(ringer: Callable[[Callable[[str], None]], Ringer], *notices: Notice) -> list[str]:
    wrote: list[str] = []
    made = ringer(wrote.append)
    for each in notices:
        made(each)
    return wrote


def test_the_bell_rings_for_bad_news_and_not_without_end() -> None:
    def ringer(write: Callable[[str], None]) -> Ringer:
        return Ringer(write, bell=True, desktop=False, clock=lambda: AT)

    assert rung(ringer, *(notice(number=n) for n in range(100))) == ["\a"] * 3
    assert rung(ringer, notice("resolved"), notice("fix_held"), notice("held_back")) == []
    assert rung(ringer, notice("worker_dead"), notice("gave_up"), notice("fix_failed")) == ["\a"] * 3


def test_a_desktop_notification_holds_nothing_that_a_terminal_obeys() -> None:
    hostile = notice(words="\x1b\\\x07\x9c\u202e;evil\n" + "x" * 9999)
    (wrote,) = rung(lambda write: Ringer(write, bell=False, desktop=True, clock=lambda: AT), hostile)
    assert wrote.startswith("\x1b]9;gpuwatch: ")
    assert wrote.endswith("\x1b\\")
    inner = wrote[2:-2]
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", inner)
    assert len(wrote) < 300


def test_watch_rings_in_a_terminal_and_not_in_a_pipe(tmp_path: Path) -> None:
    log = tmp_path / "comfyui.log"
    log.write_bytes(OOM)
    words = [*GPUWATCH, "watch", "cmd:cat " + str(log), "--plain", "--no-journal"]
    done = subprocess.run(words, capture_output=True, timeout=SECONDS, check=False)
    assert b"\a" not in done.stdout + done.stderr
    for more, rings in (([], True), (["--no-bell"], False)):
        ours, theirs = os.openpty()
        done = subprocess.run([*words, *more], stdout=subprocess.DEVNULL, stderr=theirs, timeout=SECONDS, check=False)
        os.close(theirs)
        heard = b""
        try:
            while piece := os.read(ours, 1 << 16):
                heard += piece
        except OSError:  # the other end is closed, and all was read
            pass
        os.close(ours)
        assert (b"\a" in heard) == rings


# -- the pages -------------------------------------------------------------------------------------------------------------


def test_a_notice_is_plain_lines_and_bounded_json() -> None:
    hostile = notice(words="[bold]<b>\x1b[31m\n\u202e" + "x" * 99_999)
    lines_ = notice_lines(hostile)
    assert len(lines_) == 1
    assert "\x1b" not in lines_[0]
    told = notice_json(hostile)
    assert len(json.dumps(told)) < 10_000
    assert told["incident"] is None


@pytest.mark.parametrize("page", ["notifications.md", "notifications.zh-CN.md"])
def test_the_page_names_every_key_event_and_outcome_and_its_check_works(page: str) -> None:
    words = (DOCS / page).read_text("utf-8")
    named = set(re.findall(r"`([a-z_]+)`", words))
    assert set(notice_json(notice())) <= named
    assert set(NOTICE_OUTCOMES) <= named
    assert {"opened", "worker_dead", "resolved", "fix_held", "fix_failed", "gave_up", "held_back", "test"} <= named
    (code,) = re.findall(r"^```python\n(.*?)^```$", words, re.MULTILINE | re.DOTALL)
    space: dict[str, Any] = {}
    exec(compile(code, page, "exec"), space)  # noqa: S102 - the page's own example
    check, now, secret = space["is_from_gpuwatch"], datetime.now(UTC), SECRET.encode()
    good = {"webhook-id": "one", **signature("one", now, b"{}", secret)}
    assert check(good, b"{}", secret)
    assert check({**good, "webhook-signature": "v1,AAAA " + good["webhook-signature"]}, b"{}", secret)
    assert not check(good, b"{ }", secret)
    assert not check(good, b"{}", b"another")
    assert not check({**good, "webhook-id": "two"}, b"{}", secret)
    assert not check({}, b"{}", secret)
    old = {"webhook-id": "one", **signature("one", now - timedelta(hours=1), b"{}", secret)}
    assert not check(old, b"{}", secret)
