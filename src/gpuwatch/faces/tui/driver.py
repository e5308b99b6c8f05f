"""Whether what stands on the screen of a card is still a reading: a driver that stopped answering leaves its last one."""

from __future__ import annotations

from gpuwatch.core.observations import GpuSample
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import SourceStatus
from gpuwatch.faces.tui.paint import Row, paragraph
from gpuwatch.faces.tui.wording import clock, said
from gpuwatch.texts import render, text


def silent_driver(snapshot: Snapshot, card: GpuSample) -> SourceStatus | None:
    """The source of a card's readings where it failed, for this card or for all; None where there are more to come."""
    kind = "nvml" if card.vendor == "nvidia" else "drm"
    failed = (snapshot.sources.get(name) for name in (f"{kind} {card.index}", kind))
    return next((source for source in failed if source is not None and source.state == "failed"), None)


def silence_rows(snapshot: Snapshot, card: GpuSample, width: int) -> list[Row]:
    """Why there is no newer reading, and when the last one was; nothing where the driver answers."""
    driver = silent_driver(snapshot, card)
    if driver is None:
        return []
    last = render(text("The last reading is of {time}.", time=clock(card.at, snapshot.at)))
    why = f"✗ {said(driver.reason)} " if driver.reason is not None else "✗ "
    return paragraph(why + last, width - 1, "error", 1)
