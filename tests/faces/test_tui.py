"""The screen, driven through Textual's pilot: what a person sees after which key."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from textual.pilot import Pilot

from gpuwatch.core.observations import LogChunk
from gpuwatch.faces.tui import app as app_module
from gpuwatch.faces.tui.app import WatchApp
from gpuwatch.faces.tui.keys import KEYS, Help, help_rows
from gpuwatch.faces.tui.pane import Rows
from gpuwatch.texts import text, use
from tests.faces.tui_play import DEADLINE_SECONDS, explained, play, screen, two_failures, until
from tests.faces.tui_story import (
    AT,
    FAILURES,
    ILLEGAL,
    OOM,
    NoDriver,
    Story,
    gpu,
    host,
    log,
    runner,
    watch,
)


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    use("en")
    yield
    use("en")


def test_failures_appear_newest_first_with_the_answer_of_the_worst() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        assert [incident.rule.id for incident in app.snapshot.newest_incidents] == ["kernel", "memory"]
        listed = app.body.incidents.rows.shown
        assert listed.index("A kernel strayed") < listed.index("GPU memory ran out")
        assert "✖" in listed
        assert "✗" in listed
        assert "The process is poisoned." in app.body.detail.rows.shown
        assert "needs a restart" in app.body.detail.rows.shown
        assert "$ python main.py" in app.body.detail.rows.shown

    play(watch(log(FAILURES), gpu(), host()), scene)


def test_choosing_another_failure_explains_it() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await pilot.press("j")
        await until(pilot, lambda: "asked for" in app.body.detail.rows.shown, "the numbers")
        shown = app.body.detail.rows.shown
        assert "4.00 GiB" in shown
        assert "8.00 GiB" in shown
        assert "changes the picture" in shown
        await pilot.press("G", "g")
        await until(pilot, lambda: "poisoned" in app.body.detail.rows.shown, "the first again")

    play(watch(log(FAILURES)), scene)


def test_a_click_chooses() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        row = next(y for y, line in enumerate(app.body.incidents.rows.rows) if "memory" in line.spans[2][0])
        await pilot.click(app.body.incidents.rows, offset=(6, row))
        await until(pilot, lambda: "asked for" in app.body.detail.rows.shown, "the clicked failure")

    play(watch(log(FAILURES)), scene)


def test_e_goes_through_the_failures_and_takes_the_log_along() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        view = app.body.log_pane.view
        assert "follows" in app.body.log_pane.heading.shown
        await pilot.press("E")
        assert explained(app).rule.id == "kernel", "from the end, the failure before it is the newest"
        assert not view.following
        newest = view.current
        await pilot.press("E")
        assert explained(app).rule.id == "memory"
        assert view.current == view.book.place_of(explained(app).id)
        await until(pilot, lambda: "✗ E CUDA out of memory" in screen(app), "its line")
        await pilot.press("e")
        assert explained(app).rule.id == "kernel"
        assert view.current == newest

    play(watch(log(FAILURES)), scene)


def test_a_new_failure_does_not_take_the_place_of_the_one_that_is_read() -> None:
    source = log(FAILURES)

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await pilot.press("j")
        source.tell(LogChunk(AT, "comfyui.log", b"got prompt\n" + ILLEGAL + b"Prompt executed in 2.00 seconds\n"))
        await until(
            pilot,
            lambda: len(app.snapshot.newest_incidents) == 3 or app.snapshot.newest_incidents[0].count > 1,
            "the third failure",
        )
        assert explained(app).rule.id == "memory"

    play(watch(source), scene)


HOSTILE = {
    b"[red]markup[/] [@click=app.quit]x[/]": "[red]markup[/] [@click=app.quit]x[/]",
    b"title \x1b]0;owned\x07 \x1b[2J end": "title ␛]0;owned␇ ␛[2J end",
    b"nul \x00 bell \x07 del \x7f": "nul ␀ bell ␇ del ␡",
    "right \u202eto left\u202c \u200bzero".encode(): "right ‹U+202E›to left‹U+202C› ‹U+200B›zero",
    b"invalid \xff\xfe utf-8 \xc2\x9b c1": "invalid �� utf-8 ‹U+009B› c1",
    b"a\ttab": "a       tab",
    "显存不足 🖼️ done".encode(): "显存不足 🖼 done",
    b"\x1b[32m[INFO]\x1b[0m coloured": "coloured",
}


def test_hostile_lines_are_shown_and_never_obeyed() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(app.body.log_pane.view.book) == len(HOSTILE), "the lines")
        await pilot.pause()
        shown = screen(app)
        for words in HOSTILE.values():
            assert words in shown
        assert "\x1b" not in shown
        assert "\x07" not in shown

    play(watch(log(b"\n".join(HOSTILE) + b"\n")), scene)


def test_hostile_words_in_a_failure_are_shown_in_the_answer_too() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "[/] ␀" in app.body.detail.rows.shown, "the evidence")

    play(watch(log(b"[red]CUDA out of memory[/] \x00\n"), gpu()), scene)


def test_the_language_changes_while_it_stands() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await pilot.press("l")
        await until(pilot, lambda: "内核越界" in screen(app) and "进程已损坏。" in screen(app), "Chinese")
        await pilot.press("l")
        await until(pilot, lambda: "A kernel strayed" in screen(app), "English")

    play(watch(log(FAILURES)), scene)


def test_the_look_changes() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        seen = [app.theme]
        for _ in range(4):
            await pilot.press("t")
            seen.append(app.theme)
        assert seen == ["gpuwatch-dark", "gpuwatch-light", "gpuwatch-contrast", "gpuwatch-16", "gpuwatch-dark"]

    play(watch(log(FAILURES)), scene)


def test_c_copies_the_chosen_fix() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await pilot.press("j", "c")
        assert app.clipboard == ""
        await until(pilot, lambda: "press 2, then c" in screen(app), "which fix can be copied")
        await pilot.press("2", "c")
        assert app.clipboard == "curl -X POST /free"

    play(watch(log(FAILURES)), scene)


def test_when_nothing_is_wrong_it_says_what_is_watched() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "reading comfyui.log" in screen(app), "the hint")
        assert "Nothing wrong so far." in screen(app)
        assert "no NVIDIA driver" in app.health.shown
        await pilot.press("e", "c", "n", "1", "p")
        await until(pilot, lambda: "The NVIDIA driver is not loaded." in screen(app), "why there is no GPU")

    play(watch(log(b"got prompt\n"), NoDriver("nvml", "nvml"), host()), scene, (80, 24))


def test_the_machine_and_our_own_run() -> None:
    report = {
        "event": "report", "images": 40, "failed": [], "device": "cuda:0", "variant": "tiny", "size": 512, "dtype": "fp32",
        "warm_seconds": {"p50": 0.084, "p95": 0.1}, "images_per_second": 11.9, "peak_reserved_bytes": 3 << 30,
        "weights": "random",
    }  # fmt: skip
    run = runner({"event": "started", "images": 40, "device": "cuda:0"}, {"event": "image", "done": 17}, report)

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(
            pilot,
            lambda: "random weights" in app.body.machine.rows.shown and "RTX" in app.body.machine.rows.shown,
            "both",
        )
        shown = app.body.machine.rows.shown
        for words in ("RTX 4060", "61 °C", "120/165 W", "4121 python", "17 ?", "40/40", "84 ms", "11.90", "3.00 GiB"):
            assert words in shown
        assert "6.0/8.0 GiB" in app.health.shown
        assert "RAM 50 %" in app.health.shown
        assert "127.0.0.1:9877" in app.health.shown

    play(watch(gpu(), host(), run), scene, (200, 50))


def test_a_notice_stands_until_it_is_dismissed() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: "Two servers were found." in screen(app), "the notice")
        await pilot.press("escape")
        await until(pilot, lambda: "Two servers were found." not in screen(app), "no notice")

    play(watch(log(b""), notice=text("Two servers were found.")), scene)


def test_every_key_is_in_the_help() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Help), "the help")
        await until(pilot, lambda: len(app.screen.query_one(Rows).rows) > len(KEYS), "its rows")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Help), "no help")

    play(watch(log(FAILURES)), scene)
    shown = "\n".join("".join(words for words, _ in line.spans) for line in help_rows(80))
    assert all(f"  {key.shown} " in shown for key in KEYS)


def test_the_help_in_a_browser_names_no_key_that_is_the_browser_s() -> None:
    here, there = (
        "\n".join("".join(words for words, _ in line.spans) for line in help_rows(80, in_browser=told))
        for told in (False, True)
    )
    assert "Ctrl-C" in here
    assert "^Z" in here
    assert "Ctrl-C" not in there
    assert "^Z" not in there
    assert all(f"  {key.shown} " in there for key in KEYS)


@pytest.mark.parametrize("size", [(20, 5), (300, 90), (1, 1)])
def test_any_size_will_do(size: tuple[int, int]) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(app.snapshot.incidents) == 2, "two failures")
        await pilot.resize_terminal(*size)
        await pilot.press("tab", "tab", "e", "z", "p", "z", "slash", "escape", "question_mark", "escape")
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: "strayed" in screen(app), "all of it again")

    play(watch(log(FAILURES), gpu(), host()), scene)


def test_a_flood_is_taken_in_few_repaints(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = 50_000
    source = Story("flood", "file")
    takes = 0
    take = app_module.WatchApp._take

    def counted(app: WatchApp) -> None:
        nonlocal takes
        takes += 1
        take(app)

    monkeypatch.setattr(app_module.WatchApp, "_take", counted)

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: source._emit is not None, "the source")
        chunk = b"".join(b"step %d of a long night\n" % number for number in range(1000))
        started = time.monotonic()
        for _ in range(lines // 1000):
            await asyncio.to_thread(source.tell, LogChunk(AT, "flood", chunk))
        await until(pilot, lambda: app.snapshot.sources["flood"].records == lines, "all of it")
        assert takes <= (time.monotonic() - started) * 13 + 3
        assert len(app.body.log_pane.view.book) == lines

    play(watch(source), scene)


def test_quitting_stops_the_sources() -> None:
    app = watch(log(OOM))

    async def scene(_app: WatchApp, pilot: Pilot[None]) -> None:
        await pilot.press("q")

    play(app, scene)
    assert app.pipeline.wait(DEADLINE_SECONDS)
    assert app.return_code == 0


def test_a_warning_from_another_thread_is_shown_as_it_is_and_ringing_needs_a_terminal() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        hostile = text("{words}", words="[bold]no[/] \x1b[2J")
        await asyncio.to_thread(app.say, hostile)
        await asyncio.to_thread(app.ring, "\a")
        await until(pilot, lambda: len(app._notifications) == 1)
        (shown,) = app._notifications
        assert (shown.message, shown.severity, shown.markup) == ("[bold]no[/] ␛[2J", "warning", False)

    play(watch(), scene)


def test_words_in_a_toast_are_no_markup() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        app.notify("C:\\photos [red]night[/red] [@click=app.quit]x[/]", timeout=30)
        await until(pilot, lambda: "[red]night[/red]" in screen(app), "the words as they are")

    play(watch(log(b"")), scene)
