"""The screen is drawn first, and what it shows is opened behind it: what comes meanwhile, and what goes wrong."""

from __future__ import annotations

import threading

import pytest
from textual.pilot import Pilot

from gpuwatch.core.engine import Engine
from gpuwatch.errors import UsageError
from gpuwatch.faces.tui.app import WatchApp, Watched
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import Text
from tests.faces.tui_play import DEADLINE_SECONDS, play, screen, until
from tests.faces.tui_story import FAILURES, RULES, log


def test_the_screen_stands_and_takes_keys_before_anything_is_opened() -> None:
    go_on = threading.Event()

    def opens() -> Watched:
        assert go_on.wait(DEADLINE_SECONDS)
        return Watched(Pipeline(Engine(RULES), [log(FAILURES)]), "127.0.0.1:9877")

    app = WatchApp(opens=opens)

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Starting: the rules are made ready." in screen(app), "the first screen")
        assert "q quit" in screen(app)
        for key in ("e", "m", "a", "x", "d", "c", "y", "p", "J", "R", "H", "tab", "h", "h", "slash", "escape"):
            await pilot.press(key)
        go_on.set()
        await until(pilot, lambda: len(app.snapshot.incidents) == 2 and "strayed" in screen(app), "two failures")
        await until(pilot, lambda: "layer 59" in screen(app), "all of the log")
        assert "127.0.0.1:9877" in app.health.shown

    play(app, scene, size=(200, 60))


def test_the_log_is_shown_before_what_explains_it_is_there() -> None:
    go_on = threading.Event()

    def opens() -> Watched:
        pipeline = Pipeline(None, [log(FAILURES)])
        app.show_ahead(pipeline)
        assert go_on.wait(DEADLINE_SECONDS)
        pipeline.bring(Engine(RULES))
        return Watched(pipeline)

    app = WatchApp(opens=opens)

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "layer 59" in screen(app), "the log")
        assert "Starting: the rules are made ready." in screen(app)
        assert not app.snapshot.incidents
        await pilot.press("e", "slash", *"layer", "enter")
        go_on.set()
        await until(pilot, lambda: len(app.snapshot.incidents) == 2 and "strayed" in screen(app), "two failures")
        await pilot.press("escape", "e")
        await until(pilot, lambda: "✗ E CUDA" in screen(app), "the failure's line")
        assert sum("layer 59" in line for line in everything(app)) == 2, "no line stands there twice"

    play(app, scene, size=(200, 60))


def everything(app: WatchApp) -> list[str]:
    book = app.body.log_pane.view.book
    return [entry.words() for row in range(book.first, book.end) if (entry := book.at(row)) is not None]


def test_what_cannot_be_opened_ends_the_screen() -> None:
    def opens() -> Watched:
        raise UsageError(Text("no such rules"))

    app = WatchApp(opens=opens)

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.trouble is not None, "the trouble")

    play(app, scene)
    assert isinstance(app.trouble, UsageError)


def test_who_leaves_while_it_is_opened_waits_for_nothing_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, opened = threading.Event(), threading.Event(), threading.Event()
    started = []

    class Late(Pipeline):
        def start(self) -> None:
            started.append(self)

    def opens() -> Watched:
        begun.set()
        assert go_on.wait(DEADLINE_SECONDS)
        opened.set()
        return Watched(Late(Engine(RULES), [log(FAILURES)]))

    app = WatchApp(opens=opens)

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: begun.is_set() and "Starting" in screen(app), "the first screen")
        monkeypatch.setattr(app.mends, "close", go_on.set)  # by then it has ceased to watch
        await pilot.press("q")

    play(app, scene)
    assert opened.wait(DEADLINE_SECONDS)
    assert app.trouble is None
    assert started == []
