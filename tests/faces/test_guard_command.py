"""`gpuwatch guard` as it is run: the source, the engine, the guard, and a server that answers as ComfyUI does."""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.journal import news
from gpuwatch.adapters.journal.reading import read_fixes
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.sources.comfyui import ComfyuiSource
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.cli import main
from gpuwatch.faces.commands import guard
from gpuwatch.faces.journaling import open_journal
from gpuwatch.faces.narration import in_words
from gpuwatch.pipeline import Pipeline
from tests.adapters.comfyui.beside import QUICK, Beside
from tests.adapters.receiver import hook
from tests.standin.comfyui import VERSIONS, ComfyUI
from tests.standin.prompts import faulty, workflow
from tests.standin.server import Standin, standing

PATIENCE_SECONDS = 60


class Guarding:
    """A guard that runs, and what it says."""

    def __init__(self, said: list[dict[str, Any]], changed: threading.Condition) -> None:
        self.said, self.changed = said, changed
        self.pipelines: list[Pipeline] = []
        self.over = False

    @property
    def snapshot(self) -> Snapshot:
        return self.pipelines[0].snapshot

    def until(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until it said that so often."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.over or len(self.of(event)) >= count, PATIENCE_SECONDS)
            assert len(self.of(event)) >= count, self.said
        return self.of(event)

    def known(self, happened: Callable[[], bool]) -> None:
        """Wait until the pipeline knows it: what is told to it is known a moment later."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with self.changed:
            while not happened():
                assert time.monotonic() < deadline, self.snapshot
                self.changed.wait(0.02)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.said if line["event"] == event]


@pytest.fixture
def guarding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    monkeypatch.setenv("GPUWATCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(guard, "_LOOK_SECONDS", 0.1)

    @contextmanager
    def running(*servers: str, **more: Any) -> Iterator[Guarding]:
        said: list[dict[str, Any]] = []
        changed = threading.Condition()
        say = guard.GuardLog.say

        def heard(log: guard.GuardLog, event: str, words: Any, **fields: Any) -> None:
            say(log, event, words, **fields)
            with changed:
                said.append({"event": event, **fields})
                changed.notify_all()

        monkeypatch.setattr(guard.GuardLog, "say", heard)
        arguments = argparse.Namespace(
            servers=list(servers), tries=3, min_size=None, yes=True, log=None, header_file=None, token_file=None,
            gpu_memory=None, json=True, log_format="text", rules=None, journal=None, no_journal=False,
            listen=None, notify=[], notify_severity="error", notify_format="auto", notify_secret_file=None,
        )  # fmt: skip
        vars(arguments).update(more)
        stop = threading.Event()
        watched = Guarding(said, changed)
        make = guard.guard_of

        def made(mender: Any, pipeline: Pipeline, note: Any) -> Any:
            watched.pipelines.append(pipeline)
            return make(mender, pipeline, note)

        monkeypatch.setattr(guard, "guard_of", made)
        codes: list[int] = []

        def keep() -> None:
            try:
                codes.append(guard.keep_guard(arguments, stop, QUICK))
            finally:
                watched.over = True
                with changed:
                    changed.notify_all()

        thread = threading.Thread(target=keep)
        thread.start()
        try:
            watched.until("guarding")
            yield watched
        finally:
            stop.set()
            thread.join(PATIENCE_SECONDS)
        assert codes == [0]

    return running


def seen(standin: Standin) -> None:
    """Wait until the source has read the history, so that what fails now is new."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    with standin.comfyui.changed:
        while not has_taken_stock(list(standin.asked)):
            assert time.monotonic() < deadline, standin.asked
            standin.comfyui.changed.wait(0.02)


def has_taken_stock(asked: list[tuple[str, str]]) -> bool:
    """Whether the source subscribed, then read the list of jobs, and then went on to ask how many wait."""
    wanted = iter([("PATCH", "/internal"), ("GET", ("/api/jobs", "/history")), ("GET", "/prompt")])
    step = next(wanted)
    for method, path in asked:
        if method == step[0] and path.startswith(step[1]):
            following = next(wanted, None)
            if following is None:
                return True
            step = following
    return False


def submit(standin: Standin, prompt: dict[str, Any]) -> str:
    _status, answer = standin.comfyui.submit({"prompt": prompt, "client_id": "browser"})
    return str(answer["prompt_id"])


@pytest.mark.parametrize("version", VERSIONS)
def test_memory_runs_out_at_1280_and_a_fitting_size_is_queued_and_holds(
    version: str, guarding: Callable[..., Any], tmp_path: Path
) -> None:
    log = tmp_path / "guard.jsonl"
    with (
        standing(ComfyUI(version)) as standin,
        guarding(standin.url, log=log, journal=tmp_path / "journal.db", listen=("127.0.0.1", 0)) as guarded,
    ):
        seen(standin)
        failed = submit(standin, workflow(1280))
        (held,) = guarded.until("held")
        (again,) = guarded.of("requeued")
        assert (again["job"], again["first_job"], held["job"]) == (failed, failed, again["new_job"])
        assert (again["action"], again["predicted"]["fits"]) == ("shrink_size", "yes")
        (change,) = again["changes"]
        assert (change["node_id"], change["class_type"], change["from"]) == ("3", "DDColor_Colorize", 1280)
        assert standin.comfyui.executed == [failed, again["new_job"]]
        guarded.known(lambda: guarded.snapshot.tallies.fixes.get(("shrink_size", "held")) == 1)
        (incident,) = [each for each in guarded.snapshot.incidents.values() if each.label == "cuda_oom"]
        assert (incident.count, incident.fix_outcome, incident.job_id) == (1, "held", failed)
        assert (incident.node.id, incident.node.type) == ("3", "DDColor_Colorize")
        assert incident.node.inputs["model_input_size"] == 1280
        assert guarded.snapshot.tallies.fixes[("shrink_size", "applied")] == 1
        (serving,) = guarded.of("serving")
        with urlopen(serving["address"], timeout=PATIENCE_SECONDS) as page:  # noqa: S310 - our own page
            assert b'gpuwatch_fixes_total{action="shrink_size",outcome="held"} 1.0' in page.read()

        standin.restart()
        with standin.comfyui.changed:
            while not standin.comfyui.subscribed:
                standin.comfyui.changed.wait(0.05)
        second = submit(standin, workflow(1280))
        assert guarded.until("held", 2)[1]["first_job"] == second
        assert guarded.of("gave_up") == guarded.of("failed") == []
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == [
        "serving",
        "guarding",
        "requeued",
        "held",
        "requeued",
        "held",
        "stopped",
    ]
    assert all(line["time"] and line["message"] for line in lines)
    assert (lines[-1]["requeued"], lines[-1]["held"]) == (2, 2)
    kept = read_fixes(tmp_path / "journal.db", incident.id)
    assert [(action, outcome) for _at, action, outcome in kept] == [("shrink_size", "applied"), ("shrink_size", "held")]


def test_whoever_watches_the_same_server_sees_and_counts_what_the_guard_does(
    guarding: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "POLL_SECONDS", 0.05)
    matcher = load_matcher()
    with standing() as standin, open_journal(argparse.Namespace(journal=None, no_journal=False), in_words) as books:
        assert books is not None
        assert books.journal is not None, "it keeps the journal, and the guard beside it adds to it"
        source = ComfyuiSource(server_of(standin.url), pace=QUICK)
        watched = Beside(
            Pipeline(Engine(matcher.rules, load_workloads(), shows_records=False, ready=matcher), [source])
        )
        books.keep(watched.pipeline)
        watched.pipeline.subscribe(watched.listen)
        watched.pipeline.start()
        try:
            watched.heard(standin)
            standin.asked.clear()
            with guarding(standin.url) as guarded:
                seen(standin)
                submit(standin, workflow(1280))
                guarded.until("held")
            watched.until(lambda: watched.snapshot.tallies.fixes.get(("shrink_size", "held")) == 1)
        finally:
            watched.pipeline.stop()
        assert watched.snapshot.tallies.fixes == {("shrink_size", "applied"): 1, ("shrink_size", "held"): 1}
        (incident,) = watched.incidents("cuda_oom")
        assert incident.fix_outcome == "held"
        told = read_fixes(books.ledger.path, incident.id, incident.job_id)
        assert [outcome for _at, _action, outcome in told] == ["applied", "held"]


def test_a_dead_worker_is_not_fed_and_after_the_restart_the_next_job_is_mended(guarding: Callable[..., Any]) -> None:
    with standing() as standin, guarding(standin.url) as guarded:
        seen(standin)
        submit(standin, faulty("illegal"))
        guarded.until("restart_needed")
        assert standin.comfyui.worker_alive is False
        standin.restart()
        with standin.comfyui.changed:
            while not standin.comfyui.subscribed:
                standin.comfyui.changed.wait(0.05)
        submit(standin, workflow(1280))
        guarded.until("held")
        assert len(standin.comfyui.executed) == 3


def test_what_failed_before_it_came_is_left_alone_however_long_the_list(guarding: Callable[..., Any]) -> None:
    with standing() as standin:
        comfyui = standin.comfyui
        old = [submit(standin, workflow(1280)) for _ in range(20)]
        with comfyui.changed:
            assert comfyui.changed.wait_for(lambda: len(comfyui.history) == 20, PATIENCE_SECONDS)
        with guarding(standin.url) as guarded:
            seen(standin)
            new = submit(standin, workflow(1280))
            (held,) = guarded.until("held")
            assert held["first_job"] == new
            another = submit(standin, workflow(1280))
            assert guarded.until("held", 2)[1]["first_job"] == another
            assert not {line.get("job") for line in guarded.said} & set(old)
            assert len(comfyui.executed) == 24


def test_two_servers_are_guarded_at_once(guarding: Callable[..., Any]) -> None:
    with standing() as one, standing(ComfyUI("0.3.64")) as two, guarding(one.url, two.url) as guarded:
        for standin in (one, two):
            seen(standin)
            submit(standin, workflow(1280))
        held = guarded.until("held", 2)
        assert {line["server"] for line in held} == {f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"}


def test_somebody_far_away_is_told_what_failed_what_held_and_what_only_they_can_do(
    guarding: Callable[..., Any],
) -> None:
    with hook() as there, standing() as standin:
        with guarding(standin.url, notify=[there.address]) as guarded:
            seen(standin)
            submit(standin, workflow(1280))
            guarded.until("held")
            guarded.known(lambda: guarded.snapshot.tallies.fixes.get(("shrink_size", "held")) == 1)
            submit(standin, faulty("illegal"))
            guarded.until("restart_needed")
        told = [got.json for got in there.got]
    (held,) = [notice for notice in told if notice["event"] == "fix_held"]
    assert held["fix"]["action"] == "shrink_size"
    assert held["incident"]["label"] == "cuda_oom"
    opened = [notice for notice in told if notice["event"] == "opened"]
    assert held["key"] == opened[0]["key"]
    assert opened[1]["incident"]["label"] == "illegal_memory_access"
    (asked,) = [notice for notice in told if notice["event"] == "gave_up"]
    assert "only a restart" in asked["message"]
    assert asked["severity"] == "error"
    assert asked["key"], "the incident's, or the job's where that came first"


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(["guard", *words])
    return code, capsys.readouterr().err


def test_what_cannot_be_guarded_is_said_at_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with standing() as standin:
        assert refused(capsys, standin.url)[0] == 2  # nobody is here to agree
        code, words = refused(capsys, standin.url, standin.url, "--yes")
        assert (code, "twice" in words) == (2, True)
        code, words = refused(capsys, standin.url, "--yes", "--log", str(tmp_path / "no" / "where"))
        assert (code, "cannot be written" in words) == (2, True)
        assert refused(capsys, standin.url, "--yes", "--tries", "0")[0] == 2
        assert refused(capsys, "ftp://somewhere", "--yes")[0] == 2
        standin.hazards.html = True
        code, words = refused(capsys, standin.url.replace("//", "//me:hunter2@"), "--yes")
        assert (code, "text/html" in words, "hunter2" in words) == (3, True, False)
        gone = standin.url
    assert refused(capsys, gone, "--yes")[0] == 3
