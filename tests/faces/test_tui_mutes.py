"""Muting on the screen, and what it says of rules and mutes that were read anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot

from gpuwatch.adapters.mute_file import load_mutes
from gpuwatch.core.matching.matcher import Matcher
from gpuwatch.core.mutes import Mute, Mutes
from gpuwatch.core.observations import LogChunk
from gpuwatch.core.reloads import MutesLoaded, MutesRefused, RulesLoaded, RulesRefused
from gpuwatch.faces.tui.app import WatchApp
from gpuwatch.texts import plain, use
from tests.faces.tui_play import explained, play, screen, two_failures, until
from tests.faces.tui_story import AT, FAILURES, ILLEGAL, RULES, log, watch


@pytest.fixture(autouse=True)
def mutes_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A person's folder of the test's own."""
    monkeypatch.setenv("GPUWATCH_CONFIG_DIR", str(tmp_path))
    use("en")
    yield tmp_path / "mutes.yaml"
    use("en")


async def muted(app: WatchApp, pilot: Pilot[None], count: int) -> None:
    await until(pilot, lambda: sum(i.muted for i in app.snapshot.incidents.values()) == count, f"{count} muted")
    await pilot.pause()


def test_a_rule_is_muted_with_two_keys_and_nothing_is_lost(mutes_file: Path) -> None:
    source = log(FAILURES)

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await pilot.press("m")
        await until(pilot, lambda: "Mute:  1 rule kernel  2 label illegal_memory_access  3 such lines" in screen(app))
        await pilot.press("1")
        await muted(app, pilot, 1)
        assert not app.mute_bar.display
        assert [mute.rule for mute in load_mutes(mutes_file).entries] == ["kernel"]
        await until(pilot, lambda: "1 unsolved, 2 in all, 1 muted" in screen(app), "the count")
        assert "strayed" not in app.body.incidents.rows.shown
        assert explained(app).rule.id == "memory"
        source.tell(
            LogChunk(AT, "comfyui.log", b"Prompt executed in 1.00 seconds\ngot prompt\n" + ILLEGAL + b"x\n" * 60)
        )
        await muted(app, pilot, 2)
        assert explained(app).rule.id == "memory"
        await pilot.press("M")
        await until(pilot, lambda: "strayed  ×2" in app.body.incidents.rows.shown, "the muted ones")
        assert "muted" in app.body.incidents.rows.shown
        await pilot.press("g")
        await until(pilot, lambda: "muted: rule kernel" in app.body.detail.rows.shown, "why it is muted")
        await pilot.press("m")
        await until(pilot, lambda: "Muted: rule kernel.  1 speak of it again" in screen(app))
        await pilot.press("1")
        await muted(app, pilot, 0)
        assert load_mutes(mutes_file).entries == ()

    play(watch(source), scene)


@pytest.mark.parametrize(("key", "wanted"), [("2", "label"), ("3", "pattern")])
def test_a_label_or_lines_like_this(mutes_file: Path, key: str, wanted: str) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await pilot.press("j", "m", key)
        await muted(app, pilot, 1)
        (mute,) = load_mutes(mutes_file).entries
        assert getattr(mute, wanted) is not None
        assert [i.rule.id for i in app.snapshot.incidents.values() if i.muted] == ["memory"]

    play(watch(log(FAILURES)), scene)


def test_the_choice_stands_aside(mutes_file: Path) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await pilot.press("m")
        assert app.mute_bar.display
        await pilot.press("9")
        assert app.mute_bar.display, "9 is no choice"
        await pilot.press("l")
        await until(pilot, lambda: "静音" in app.mute_bar.shown, "Chinese")
        await pilot.press("l", "escape")
        assert not app.mute_bar.display
        await pilot.press("m", "j")
        assert not app.mute_bar.display, "another failure is another question"
        await pilot.press("m", "m")
        assert not app.mute_bar.display
        await pilot.press("2")
        assert app.choice.fix == 1
        assert not mutes_file.exists()

    play(watch(log(FAILURES)), scene)


def test_nothing_to_mute_and_only_muted_ones() -> None:
    async def nothing(app: WatchApp, pilot: Pilot[None]) -> None:
        await pilot.press("m", "M", "M")
        assert not app.mute_bar.display
        await until(pilot, lambda: "No failure seen." in screen(app), "nothing to mute")

    async def muted_only(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(app.snapshot.incidents) == 2, "two failures")
        app.pipeline.emit(MutesLoaded(AT, Mutes((Mute(pattern=b"."),))))
        await until(pilot, lambda: "Only muted failures; M lists them." in screen(app), "the empty list")
        await pilot.press("e", "j", "m", "c", "1")
        assert not app.mute_bar.display
        await pilot.press("M", "j")
        await until(pilot, lambda: "0 unsolved, 2 in all, 2 muted" in screen(app), "the list")
        assert explained(app).muted

    play(watch(log(b"fine\n")), nothing)
    play(watch(log(FAILURES)), muted_only)


def test_a_file_that_cannot_be_written_is_told(mutes_file: Path) -> None:
    mutes_file.write_text("- rul: a\n")

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        await pilot.press("m", "1")
        await until(pilot, lambda: "`rul` is not known" in screen(app), "the mistake")
        assert not any(i.muted for i in app.snapshot.incidents.values())
        assert mutes_file.read_text() == "- rul: a\n"

    play(watch(log(FAILURES)), scene)


def test_the_screen_says_what_became_of_changed_rules() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await two_failures(app, pilot)
        app.pipeline.emit(RulesRefused(AT, plain("rules/a.yaml:6: no")))
        told = "The rules stay as they were: rules/a.yaml:6: no"
        await until(pilot, lambda: told in app.notice_line.shown and app.notice_line.display, told)
        app.pipeline.emit(RulesLoaded(AT, RULES, Matcher(RULES)))
        await until(pilot, lambda: "Rules read anew: 3 in force." in screen(app), "the new rules")
        assert not app.notice_line.display
        app.pipeline.emit(MutesRefused(AT, plain("mutes.yaml:1: no")))
        await until(pilot, lambda: "The mutes stay as they were: mutes.yaml:1: no" in screen(app), "the mutes")
        app.pipeline.emit(MutesLoaded(AT, Mutes()))
        await until(pilot, lambda: not app.notice_line.display, "all is well")

    play(watch(log(FAILURES)), scene)
