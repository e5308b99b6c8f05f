"""Plays a scene on the screen through Textual's pilot, and reads what stands there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from textual.pilot import Pilot

from gpuwatch.core.incidents import Incident
from gpuwatch.faces.tui.app import WatchApp

DEADLINE_SECONDS = 30.0
"""Generous: two cores may be busy with other tests."""
Play = Callable[[WatchApp, Pilot[None]], Awaitable[None]]


def play(app: WatchApp, scene: Play, size: tuple[int, int] = (120, 40)) -> None:
    async def run() -> None:
        async with app.run_test(size=size, notifications=True) as pilot:
            await scene(app, pilot)

    asyncio.run(run())


async def until(pilot: Pilot[None], holds: Callable[[], object], what: str = "") -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"never came: {what}\n{screen(pilot.app)}"
        await pilot.pause()


def screen(app: object) -> str:
    """What stands on the screen, row by row, as the compositor has it."""
    assert isinstance(app, WatchApp)
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text.rstrip() for strip in strips)


def shown_rows(app: WatchApp) -> list[int]:
    """The numbers of the log's rows that are in view."""
    return [piece.entry.number for piece in app.body.log_pane.view._pieces]


def explained(app: WatchApp) -> Incident:
    incident = app.choice.incident(app.snapshot)
    assert incident is not None
    return incident


async def two_failures(app: WatchApp, pilot: Pilot[None]) -> None:
    await until(pilot, lambda: len(app.snapshot.incidents) == 2 and "strayed" in screen(app), "two failures")
