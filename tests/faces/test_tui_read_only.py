"""A screen that only shows: what would act is not offered, is refused in a sentence, and leaves no trace."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from textual.pilot import Pilot

from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.comfyui.pace import Pace
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.adapters.sources.comfyui import ComfyuiSource
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.faces.servers import mender_of
from gpuwatch.faces.tui.app import WatchApp
from gpuwatch.faces.tui.desk import ONLY_SHOWS
from gpuwatch.faces.tui.keys import KEYS, Help, help_rows, keys_of
from gpuwatch.faces.tui.mend import servers_of
from gpuwatch.faces.tui.palette import KeyCommands
from gpuwatch.faces.tui.remembered import Remembered, screen_file
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import render, use
from tests.faces import tui_play
from tests.faces.tui_play import play, two_failures, until
from tests.faces.tui_story import FAILURES, RULES, log
from tests.standin.prompts import workflow
from tests.standin.server import standing

ACTING = [key for key in KEYS if key.acts]
OTHERS = [key for key in KEYS if not key.acts and key.action != "leave"]
SENTENCE = render(ONLY_SHOWS)
PACE = Pace(busy_seconds=0.05, idle_seconds=0.05, first_wait_seconds=0.05, longest_wait_seconds=0.2)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Everything that a screen could write to."""
    monkeypatch.setenv("GPUWATCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("GPUWATCH_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr(tui_play, "DEADLINE_SECONDS", 30.0)
    monkeypatch.chdir(tmp_path)
    use("en")
    yield tmp_path
    use("en")


def read_only() -> WatchApp:
    return WatchApp(Pipeline(Engine(RULES), [log(FAILURES)]), read_only=True, remembers=screen_file())


async def refused(app: WatchApp, pilot: Pilot[None]) -> None:
    await until(pilot, lambda: any(each.message == SENTENCE for each in app._notifications), "the sentence")
    app.clear_notifications()


def test_the_keys_that_act_are_known() -> None:
    assert {key.action for key in ACTING} == {"export", "mend", "mend_alike", "mute", "put_back"}


def test_every_key_that_acts_is_refused_and_nothing_is_written(folder: Path) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        for key in ACTING:
            await pilot.press(key.keys, key.keys)
            await refused(app, pilot)
            await app.run_action(key.action)
            await refused(app, pilot)
        assert not app.mute_bar.display
        await pilot.press("1", "2", "3")
        assert not any(incident.muted for incident in app.snapshot.incidents.values())
        await pilot.press("l", "m")
        await until(pilot, lambda: any("只供查看" in each.message for each in app._notifications), "Chinese")

    play(read_only(), scene)
    assert list(folder.rglob("*")) == []


def test_no_other_key_writes_anything_either(folder: Path) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        for key in OTHERS:
            await pilot.press(*key.keys.split(","), "escape")
        await pilot.press("H", "slash", "escape", "v", "up", "y")
        await until(pilot, lambda: "loaded layer" in app.clipboard, "the copy")

    play(read_only(), scene)
    assert list(folder.rglob("*")) == []


def test_what_is_refused_is_not_offered() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        assert " x export" not in app.keys.shown
        assert " q quit" in app.keys.shown
        told = [str(hit.text) async for hit in KeyCommands(app.screen).discover()]
        assert [key.shown for key in ACTING if any(title.endswith(f"({key.shown})") for title in told)] == []
        assert len(told) == len(KEYS) - len(ACTING)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help), "the help")

    play(read_only(), scene, size=(220, 60))
    rows = ["".join(words for words, _tone in row.spans) for row in help_rows(100, keys_of(read_only=True))]
    assert [key.shown for key in ACTING if any(row.startswith(f"  {key.shown} ") for row in rows)] == []


def test_what_was_chosen_last_time_is_read_and_left(folder: Path) -> None:
    path = screen_file()
    assert path is not None
    Remembered(theme="gpuwatch-light", page="jobs").write(path)
    before = path.read_bytes()

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        assert (app.theme, app.body.page) == ("gpuwatch-light", "jobs")
        await pilot.press("t", "H")

    play(read_only(), scene)
    assert path.read_bytes() == before
    assert [each for each in folder.rglob("*") if each.is_file()] == [path]


def test_a_watched_server_is_asked_for_nothing() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.snapshot.queues, "the server")
        standin.comfyui.submit({"prompt": workflow(1280)})
        await until(pilot, lambda: any(each.job_id for each in app.snapshot.incidents.values()), "the failed job")
        executed = list(standin.comfyui.executed)
        await pilot.press("a", "a")
        await refused(app, pilot)
        assert all(app.mends.of(incident) is None for incident in app.snapshot.incidents)
        incident = app.choice.incident(app.snapshot)
        assert incident is not None
        app.mends.plan(incident)
        assert app.mends.of(incident.id) is None, "nor from anywhere else in the program"
        assert standin.comfyui.executed == executed

    with standing() as standin:
        matcher = load_matcher(None)
        sources = [ComfyuiSource(server_of(standin.url), pace=PACE)]
        pipeline = Pipeline(Engine(matcher.rules, load_workloads(), ready=matcher), sources)
        arguments = argparse.Namespace(rules=None, gpu_memory=None)
        menders = {name: partial(mender_of, server, arguments) for name, server in servers_of(sources).items()}
        play(WatchApp(pipeline, menders=menders, read_only=True), scene, size=(160, 50))
