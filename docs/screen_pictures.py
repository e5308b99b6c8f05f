"""The program's own screen as pictures, for the documentation: `python docs/generate.py screens`.

Each picture is a scene, a size and some keys; the same program makes the same pictures. What a scene shows, and what of it is
made up, stands in `screen_scenes.py`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from textual.pilot import Pilot

from gpuwatch.faces.tui import desk
from gpuwatch.faces.tui.app import WatchApp
from gpuwatch.texts import LANGUAGES, Language, use

sys.path.insert(0, str(Path(__file__).parent))
from screen_scenes import SCENES, STOP_SECONDS, moment
from screen_words import steadied

FOLDER = Path(__file__).parent / "screens"
_DEADLINE_SECONDS = 60.0

Keys = Callable[[WatchApp, Pilot[None]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: what it is of."""

    name: str
    keys: Keys
    size: tuple[int, int] = (120, 36)
    languages: tuple[Language, ...] = LANGUAGES
    theme: str = ""
    scene: Literal["recorded", "server", "long"] = "recorded"


def screens(names: Sequence[str]) -> dict[Path, str]:
    """Every picture, in its languages; those of these names, where there are some."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    wanted = [picture for picture in PICTURES if picture.name in names or not names]
    desk.utc_now = lambda: moment(STOP_SECONDS + 1)  # a mute is written with the time
    with tempfile.TemporaryDirectory() as home, chdir(home):
        own = Path(".config/gpuwatch")  # shown where a mute is from
        own.mkdir(parents=True)
        os.environ["GPUWATCH_STATE_DIR"], os.environ["GPUWATCH_CONFIG_DIR"] = home, str(own)
        return {
            FOLDER / f"{picture.name}-{language}.svg": asyncio.run(shot(picture, language))
            for picture in wanted
            for language in picture.languages
        }


async def shot(picture: Picture, language: Language) -> str:
    """One picture in one language."""
    use(language)
    with SCENES[picture.scene]() as app:
        async with app.run_test(size=picture.size, notifications=True) as pilot:
            if picture.theme:
                app.theme = picture.theme
            await picture.keys(app, pilot)
            await pilot.pause(0.5)
            return steadied(app.export_screenshot(title="gpuwatch"))


async def until(pilot: Pilot[None], holds: Callable[[], object], what: str) -> None:
    """Wait for something to stand on the screen."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            shown = "\n".join(strip.text for strip in pilot.app.screen._compositor.render_strips())
            raise SystemExit(f"never came: {what}\n{shown}")
        await pilot.pause(0.02)


# -- keys ------------------------------------------------------------------------------------------------------------------


async def failures(app: WatchApp, pilot: Pilot[None]) -> None:
    """The recorded failures are there, and the first of them is read."""
    await until(pilot, lambda: len(app.snapshot.incidents) >= 3 and app.snapshot.progress, "three failures")
    await pilot.pause(0.5)
    await pilot.press("g", "e")
    while app.choice.incident(app.snapshot) is not list(app.snapshot.newest_incidents)[-1]:
        await pilot.press("e")


def then(*keys: str) -> Keys:
    """The failures, and these keys."""

    async def press(app: WatchApp, pilot: Pilot[None]) -> None:
        await failures(app, pilot)
        await pilot.press(*keys)

    return press


async def planned(app: WatchApp, pilot: Pilot[None]) -> None:
    """A job failed on the server, and its mending is asked about."""
    await until(pilot, lambda: any(each.job_id for each in app.snapshot.incidents.values()), "the failed job")
    await pilot.press("a")
    incident = next(iter(app.snapshot.incidents))
    await until(pilot, lambda: app.body.detail.question(app.mends.of(incident)).ready, "the plan")


async def mended(app: WatchApp, pilot: Pilot[None]) -> None:
    """It is agreed to, and held."""
    await planned(app, pilot)
    await pilot.press("a")
    incident = next(iter(app.snapshot.incidents))
    await until(pilot, lambda: app.snapshot.incidents[incident].fix_outcome == "held", "that it held")
    await until(pilot, lambda: app.snapshot.incidents[incident].state == "cleared", "that it is over")
    await pilot.pause(0.5)


async def searched(app: WatchApp, pilot: Pilot[None]) -> None:
    """Something is looked for in the log, with the histogram above it."""
    await until(pilot, lambda: len(app.snapshot.incidents) > 3, "its failures")
    await pilot.press("slash", *"traceback", "enter")
    await until(pilot, lambda: app.body.log_pane.view.found_place is not None, "what is searched")
    await pilot.press("h", "z")
    await until(pilot, lambda: "▲" in app.body.log_pane.histogram.shown, "the histogram")


async def muted(app: WatchApp, pilot: Pilot[None]) -> None:
    """One rule is muted, and what is muted listed."""
    await failures(app, pilot)
    await pilot.press("m", "1")
    await until(pilot, lambda: any(each.muted for each in app.snapshot.incidents.values()), "what is muted")
    await pilot.press("M")


PICTURES = (
    Picture("watch", failures),
    Picture("answer", then("tab", "z")),
    Picture("mend", planned, scene="server"),
    Picture("held", mended, scene="server"),
    Picture("gpu", then("p")),
    Picture("jobs", then("J"), (120, 30)),
    Picture("runner", then("R"), (120, 42)),
    Picture("log", searched, scene="long"),
    Picture("muted", muted, (120, 30)),
    Picture("help", then("question_mark"), (120, 66)),
    Picture("small", failures, (80, 24), ("en",)),
    Picture("light", failures, languages=("en",), theme="gpuwatch-light"),
    Picture("contrast", failures, languages=("en",), theme="gpuwatch-contrast"),
    Picture("large", failures, (200, 60), ("en",)),
)
