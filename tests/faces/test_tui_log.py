"""Moving in a long log: search, filters, going to a place, bookmarks, wrapping, selecting, the map and the histogram."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot

from gpuwatch.core.observations import LogChunk
from gpuwatch.faces.tui.app import WatchApp
from gpuwatch.texts import use
from tests.faces.tui_play import play, screen, shown_rows, two_failures, until
from tests.faces.tui_story import (
    AT,
    BENIGN,
    FAILURES,
    OOM,
    log,
    watch,
)

LINES = b"".join(b"2026-01-15 10:%02d:%02d - INFO - line %d of many\n" % (n // 60, n % 60, n) for n in range(1_800))


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("GPUWATCH_STATE_DIR", str(tmp_path / "state"))
    use("en")
    yield tmp_path
    use("en")


async def in_log(app: WatchApp, pilot: Pilot[None], rows: int) -> None:
    await until(pilot, lambda: len(app.body.log_pane.view.book) == rows and len(shown_rows(app)) > 5, "the log")
    app.look_at("log")
    await until(pilot, lambda: app.body.log_pane.view.has_focus, "the focus")


async def type_into(app: WatchApp, pilot: Pilot[None], key: str, words: str) -> None:
    await pilot.press(key)
    app.body.log_pane.field.value = words
    await pilot.press("enter")


def test_only_and_without_are_live() -> None:
    source = log(LINES)

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await in_log(app, pilot, 1_800)
        view, heading = app.body.log_pane.view, app.body.log_pane.heading
        await type_into(app, pilot, "i", "7 of")
        await until(pilot, lambda: "only “7 of”   180" in heading.shown, "what is left")
        await until(pilot, lambda: all(row % 10 == 7 for row in shown_rows(app)), "only those lines")
        source.tell(LogChunk(AT, "comfyui.log", b"a new line, 7 of them\nanother\n"))
        await until(pilot, lambda: "181" in heading.shown and "a new line" in screen(app), "the new one")
        await type_into(app, pilot, "o", "re:new|97")
        await until(pilot, lambda: "without “re:new|97”   161" in heading.shown, "both")
        await type_into(app, pilot, "i", "")
        await until(pilot, lambda: "another" in screen(app) and "a new line" not in screen(app), "without alone")
        await pilot.press("g")
        assert not view.following
        assert shown_rows(app)[0] == 0
        await pilot.press("escape")
        await until(pilot, lambda: view.filter is None and "without" not in heading.shown, "all of it")

    play(watch(source), scene)


def test_going_to_a_line_and_to_a_time() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await in_log(app, pilot, 1_800)
        view = app.body.log_pane.view
        await type_into(app, pilot, "colon", "100")
        await until(pilot, lambda: view.current == 99 and 99 in shown_rows(app), "the line")
        await type_into(app, pilot, "colon", "10:20:30")
        await until(pilot, lambda: view.current == 1_230, "the time")
        await type_into(app, pilot, "colon", "tomorrow")
        await until(pilot, lambda: "Type a line's number" in app.body.log_pane.heading.shown, "what can be typed")
        await pilot.press("escape")
        await until(pilot, lambda: "stays here" in app.body.log_pane.heading.shown, "no complaint")

    play(watch(log(LINES)), scene, (160, 40))


def test_bookmarks() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await in_log(app, pilot, 1_800)
        view = app.body.log_pane.view
        for line in (1_000, 20):
            view.show_row(line)
            await pilot.press("b")
        assert view.bookmarks == {20, 1_000}
        await until(pilot, lambda: "◆" in screen(app), "the sign")
        await pilot.press("B")
        assert view.current == 1_000
        await pilot.press("B")
        assert view.current == 20
        await pilot.press("b")
        assert view.bookmarks == {1_000}

    play(watch(log(LINES)), scene)


def test_long_lines_wrap_and_every_part_is_reached() -> None:
    words = b"".join(b"word%03d " % n for n in range(120)).rstrip()

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await in_log(app, pilot, 61)
        view = app.body.log_pane.view
        await pilot.press("w")
        await until(pilot, lambda: "word119" in screen(app) and "↪" in screen(app), "its end")
        await pilot.press("g")
        await until(pilot, lambda: "layer 0 of" in screen(app), "the begin")
        seen = set(shown_rows(app))
        for _ in range(200):
            if view.following:
                break
            await pilot.press("j")
            seen |= set(shown_rows(app))
        assert view.following
        assert seen == set(range(61))
        await pilot.press("k", "w")
        await until(pilot, lambda: "word119" not in screen(app), "one line again")

    play(watch(log(b"".join(b"layer %d of it\n" % n for n in range(60)) + words + b"\n")), scene)


def test_lines_are_selected_and_copied(own_state: Path) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await in_log(app, pilot, 1_800)
        view = app.body.log_pane.view
        await pilot.press("y")
        await until(pilot, lambda: "Mark a line" in screen(app), "how to")
        view.show_row(10)
        await pilot.press("v", "j", "j", "y")
        assert app.clipboard == "line 10 of many\nline 11 of many\nline 12 of many\n"
        copied = own_state / "state" / "copied.txt"
        await until(pilot, copied.exists, "the file")
        assert copied.read_text() == app.clipboard
        assert copied.stat().st_mode & 0o077 == 0
        await pilot.press("v")
        assert view.mark_from is None

    play(watch(log(LINES)), scene)


def test_the_mouse_selects_and_goes_to_a_place_on_the_map() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await in_log(app, pilot, 1_800)
        view = app.body.log_pane.view
        await pilot.click(view, offset=(view.size.width - 1, 0))
        await until(pilot, lambda: shown_rows(app)[0] == 0, "the begin")
        await pilot.mouse_down(view, offset=(20, 2))
        await pilot.hover(view, offset=(20, 5))
        await pilot.mouse_up(view, offset=(20, 5))
        await until(pilot, lambda: (view.mark_from, view.current) == (2, 5), "four lines")
        view.post_message(
            events.MouseScrollDown(view, 1, 1, 0, 0, 0, shift=False, meta=False, ctrl=False, screen_x=1, screen_y=1)
        )
        await until(pilot, lambda: shown_rows(app)[0] == 3, "three lines on")

    play(watch(log(LINES)), scene)


def test_the_histogram_and_the_map_show_where_it_failed() -> None:
    data = LINES.replace(b"INFO - line 900 ", b"ERROR - line 900 ") + b"".join(b"x\n" for _ in range(10))

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await in_log(app, pilot, 1_811)
        await pilot.press("h")
        await until(pilot, lambda: "10:00:00" in app.body.log_pane.histogram.shown, "the histogram")
        shown = app.body.log_pane.histogram.shown
        assert "✗ 2" in shown
        assert "10:29:59" in shown
        assert "◂" in screen(app)
        await pilot.press("h")
        assert not app.body.log_pane.histogram.display

    play(watch(log(data + OOM)), scene)


def test_nothing_is_drawn_again_while_nothing_in_view_changes() -> None:
    source = log(LINES)

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await in_log(app, pilot, 1_800)
        view = app.body.log_pane.view
        await pilot.press("g")
        drawn = view._drawn
        refreshed: list[object] = []
        view.refresh = lambda *regions, **_more: refreshed.append(regions) or view  # type: ignore[method-assign,func-returns-value,assignment]
        source.tell(LogChunk(AT, "comfyui.log", b"one more\n"))
        await until(pilot, lambda: "1 new" in app.body.log_pane.heading.shown, "the badge")
        assert view._drawn is drawn
        assert all(len(regions) == 1 for regions in refreshed), "at most the map"

    play(watch(source), scene)


def test_a_full_disk_is_told() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        app.body.log_pane.view.book.spool.trouble = "No space left on device"
        await until(pilot, lambda: "not on disk (No space left on device)" in screen(app), "the note")

    play(watch(log(FAILURES)), scene)


def test_the_log_follows_stays_and_counts_what_is_new() -> None:
    source = log(BENIGN)

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        view = app.body.log_pane.view
        await until(pilot, lambda: "layer 59" in screen(app), "the end of the log")
        view.focus()
        await until(pilot, lambda: view.has_focus, "the focus")
        await pilot.press("k", "k")
        assert not view.following
        top = shown_rows(app)
        source.tell(LogChunk(AT, "comfyui.log", b"one\ntwo\nthree\n"))
        await until(pilot, lambda: "3 new" in app.body.log_pane.heading.shown, "the badge")
        assert shown_rows(app) == top
        await pilot.press("f")
        await until(pilot, lambda: "three" in screen(app) and view.following, "the end again")
        assert "follows" in app.body.log_pane.heading.shown

    play(watch(source), scene)


def test_search_finds_counts_and_steps() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(app.body.log_pane.view.book) == 60, "the log")
        await pilot.press("slash", *"LA", "enter")
        await until(pilot, lambda: "is not there" in app.body.log_pane.heading.shown, "capitals ask for themselves")
        await pilot.press("slash", *"r 1", "enter")
        await until(pilot, lambda: "11/11" in app.body.log_pane.heading.shown, "eleven lines, the last first")
        await pilot.press("N")
        await until(pilot, lambda: "10/11" in app.body.log_pane.heading.shown, "the one before")
        await pilot.press("n", "n")
        await until(pilot, lambda: "1/11" in app.body.log_pane.heading.shown, "round the end")
        await pilot.press("slash", "escape")
        await until(pilot, lambda: app.body.log_pane.view.search is None, "no search")

    play(watch(log(BENIGN)), scene)


def test_what_is_typed_at_once_goes_where_it_belongs() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        for character in "/elm?q":
            app.post_message(events.Key("slash" if character == "/" else character, character))
        app.post_message(events.Key("enter", "\r"))
        await until(pilot, lambda: "“elm?q” is not there" in app.body.log_pane.heading.shown, "the search")

    play(watch(log(FAILURES)), scene)


def test_search_takes_patterns_and_says_what_is_wrong_with_one() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(app.body.log_pane.view.book) == 60, "the log")
        app.action_search()
        app.body.log_pane.field.value = r"re:layer [12]\d of"
        await pilot.press("enter")
        await until(pilot, lambda: "20/20" in app.body.log_pane.heading.shown, "twenty lines")
        app.action_search()
        app.body.log_pane.field.value = "re:(layer"
        await pilot.press("enter")
        await until(pilot, lambda: "cannot be read" in app.body.log_pane.heading.shown, "the complaint")

    play(watch(log(BENIGN)), scene)


def test_a_slow_pattern_is_cut_short() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(app.body.log_pane.view.book) == 40, "the log")
        app.action_search()
        app.body.log_pane.field.value = "re:(a|aa)+$"
        await pilot.press("enter")
        await until(pilot, lambda: "takes too long" in app.body.log_pane.heading.shown, "the verdict")

    play(watch(log((b"a" * 60 + b"b\n") * 40)), scene)


def test_very_long_lines_scroll_sideways() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "xxxx" in screen(app), "the line")
        app.body.log_pane.view.focus()
        await until(pilot, lambda: app.body.log_pane.view.has_focus, "the focus")
        await pilot.press("right")
        await until(pilot, lambda: app.body.log_pane.view.left == 8, "eight cells on")
        await pilot.press("0")
        await until(pilot, lambda: app.body.log_pane.view.left == 0, "the margin")

    play(watch(log(b"x" * 300_000 + b"\n")), scene)


def test_the_progress_bar_is_one_live_line() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "42 %" in app.body.log_pane.bars.shown, "the bar")
        assert "5/12" in app.body.log_pane.bars.shown
        assert len(app.body.log_pane.view.book) == 1

    play(
        watch(log(b"got prompt\n\r 8%|#   | 1/12 [00:00<00:01,  6.65it/s]\r42%|### | 5/12 [00:01<00:01,  6.65it/s]")),
        scene,
    )
