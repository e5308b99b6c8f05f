"""The line at the top: is anything read, is the GPU well, how full is it. What matters less goes first where room is short."""

from __future__ import annotations

from dataclasses import dataclass

from gpuwatch.core.loop.broken import breakage
from gpuwatch.core.observations import GpuSample, JobProgress, QueueState, ServerSeen
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.status import SourceStatus
from gpuwatch.faces.tui.driver import silent_driver
from gpuwatch.faces.tui.paint import Row, Span, bar, cut_front, filling, memory_ratio, row, spread, width_of
from gpuwatch.faces.tui.pane import OneLine
from gpuwatch.faces.tui.server_card import card_spans, server_cards
from gpuwatch.faces.tui.wording import is_live
from gpuwatch.texts import render, show_seconds, text, visible
from gpuwatch.texts import translate as _

_GIB = 1 << 30
INSTRUMENTS = frozenset({"nvml", "drm", "host", "runner"})
"""Kinds of source that are no logs: what they say has its own place on the line."""

_IDLE_STEP_SECONDS = 10
"""A line that is counted up each second costs as much as everything else at rest, and draws the eye for nothing."""


@dataclass(frozen=True, slots=True)
class Item:
    """A part of the line, and how soon it may be left out: the largest number goes first."""

    order: int
    spans: tuple[Span, ...]
    at_right: bool = False


class HealthBar(OneLine):
    """The line."""

    def draw(self, snapshot: Snapshot, metrics_address: str | None, title: str) -> None:
        """Say how things stand now."""
        self.show(health_row(snapshot, metrics_address, title, self.size.width))


def health_row(snapshot: Snapshot, metrics_address: str | None, title: str, width: int) -> Row:
    """The line for a width."""
    items = [
        Item(5, ((" gpuwatch ", "title"), (f"{visible(title)} " if title else "", "dim"))),
        Item(0, ((" ", "text"), *pulse(snapshot))),
        *(item for place, source in logs(snapshot) for item in source_items(source, place)),
        *server_items(snapshot),
        *gpu_items(snapshot),
    ]
    if snapshot.host is not None and snapshot.host.memory_total_bytes:
        used = 1 - snapshot.host.memory_available_bytes / snapshot.host.memory_total_bytes
        percent: Span = (f"{used * 100:.0f} %", filling(used) if used >= 0.85 else "text")
        ram: tuple[Span, ...] = (("   RAM ", "dim"), percent)
        items.append(Item(6, ram, at_right=True))
    if metrics_address:
        items.append(Item(20, (("   " + _("metrics") + " ", "dim"), (visible(metrics_address), "text")), at_right=True))
    while len(items) > 1 and sum(width_of(item.spans) for item in items) + 2 > width:
        items.remove(max(items, key=lambda item: item.order))
    left = [span for item in items if not item.at_right for span in item.spans]
    right = [span for item in items if item.at_right for span in item.spans]
    return row(*spread(left, [*right, (" ", "text")], width), back="quiet")


def logs(snapshot: Snapshot) -> list[tuple[int, SourceStatus]]:
    """The sources that are logs, numbered."""
    return list(enumerate(source for source in snapshot.sources.values() if source.kind not in INSTRUMENTS))


def pulse(snapshot: Snapshot) -> tuple[Span, ...]:
    """Live, idle, ended or waiting."""
    sources = [source for _place, source in logs(snapshot)]
    if sources and all(source.state == "failed" for source in sources):
        return (("✗ ", "error"), (_("lost"), "error"))
    if sources and all(source.state != "up" for source in sources):
        return (("■ ", "dim"), (_("ended"), "dim"))
    last = max((source.last_at for source in sources if source.last_at is not None), default=None)
    if last is None or snapshot.at is None:
        return (("○ ", "dim"), (_("waiting"), "dim"))
    if is_live(last, snapshot.at):
        return (("● ", "good"), (_("live"), "good"))
    seconds = round((snapshot.at - last).total_seconds())
    quiet = f"{seconds - seconds % _IDLE_STEP_SECONDS} s" if seconds < 60 else f"{seconds // 60} min"
    if seconds >= 3600:
        quiet = show_seconds(seconds - seconds % 60)
    return (("○ ", "dim"), (render(text("idle {time}", time=quiet)), "dim"))


def source_items(source: SourceStatus, place: int) -> list[Item]:
    """A log: its sign, its name, its state in a word, how much was read."""
    name = cut_front(visible(source.name), 28)
    if source.state == "failed":
        word = _("does not answer") if source.kind == "comfyui" else _("failed")
        return [Item(3, (("   ✗ ", "error"), (name, "text"), (" " + word, "error")))]
    ended = source.state == "ended"
    sign: Span = ("   ■ ", "dim") if ended else ("   ✓ ", "good")
    said: Span = (name + (" " + _("ended") if ended else ""), "dim" if ended else "text")
    count = render(text("{count} records", count=f"{source.records:,}"))
    if source.kind in {"replay", "runner"}:  # they bring logs of other names, which are counted there
        return [Item(7 + place, (sign, said))]
    return [Item(7 + place, (sign, said)), Item(14 + place, ((" " + count, "dim"),))]


def server_items(snapshot: Snapshot) -> list[Item]:
    """Each ComfyUI server that answers: its version, its queue, the node that runs."""
    items = []
    silent = {source.name for source in snapshot.sources.values() if source.state == "failed"}
    for place, name in enumerate(sorted({*snapshot.queues, *snapshot.progress} - silent)):
        seen, queue, progress = (known.get(name) for known in (snapshot.servers, snapshot.queues, snapshot.progress))
        spans: list[Span] = [("   ComfyUI", "dim")]
        if isinstance(seen, ServerSeen) and seen.version:
            spans.append((f" {visible(seen.version)}", "dim"))
        if isinstance(queue, QueueState):
            words = text("{running} running, {pending} waiting", running=queue.running, pending=queue.pending)
            spans.append((" " + render(words), "text"))
        if breakage(snapshot.incidents.values(), name) is not None:
            items.append(Item(1 + 10 * place, (("   ✖ ", "error"), (_("needs a restart"), "error"))))
        items.append(Item(2 + 10 * place, tuple(spans)))
        if isinstance(progress, JobProgress):
            node = " · " + render(text("node {id}", id=visible(progress.node_id)))
            told: tuple[Span, ...] = ((node, "accent"),)
            if progress.value is not None and progress.max:
                told = (*told, (f" {progress.value:g}/{progress.max:g}", "text"))
            items.append(Item(6 + 10 * place, told))
    return items


def gpu_items(snapshot: Snapshot) -> list[Item]:
    """Each GPU, the fullest the last to go; a calm word where there is none."""
    newest = [samples[-1] for samples in snapshot.gpus.values() if samples]
    fullest = sorted(newest, key=lambda sample: -(memory_ratio(sample) or 0.0))
    items = []
    for sample in sorted(newest, key=lambda sample: sample.index):
        place = fullest.index(sample)
        label = "   GPU " if len(newest) == 1 else f"   GPU {sample.index} "
        if silent_driver(snapshot, sample) is not None:
            told: tuple[Span, ...] = (
                ("   ✗ ", "error"),
                (label.strip(), "text"),
                (" " + _("does not answer"), "error"),
            )
            items.append(Item(1 + 10 * place, told, at_right=True))
            continue
        items.append(Item(1 + 10 * place, ((label, "dim"), *memory_spans(sample)), at_right=True))
        if sample.temperature_celsius is not None:
            heat = f"  {sample.temperature_celsius:.0f} °C"
            items.append(Item(4 + 10 * place, ((heat, "text"),), at_right=True))
        if sample.power_watts is not None:
            items.append(Item(12 + 10 * place, ((f"  {sample.power_watts:.0f} W", "dim"),), at_right=True))
    cards = server_cards(snapshot)
    for place, seen in enumerate(cards):
        spans = card_spans(seen, named=bool(newest) or len(cards) > 1)
        items.append(Item(1 + 10 * (len(newest) + place), spans, at_right=True))
    if not newest and not cards:
        driver = next((source for source in snapshot.sources.values() if source.kind == "nvml"), None)
        if driver is not None and driver.state != "up":
            items.append(Item(8, (("   " + _("no NVIDIA driver"), "dim"),), at_right=True))
    return items


def memory_spans(sample: GpuSample) -> tuple[Span, ...]:
    """Used of total, with a bar."""
    ratio = memory_ratio(sample)
    if ratio is None or sample.used_bytes is None or sample.total_bytes is None:
        return ((_("memory unknown"), "dim"),)
    tone = filling(ratio)
    numbers = f"{sample.used_bytes / _GIB:.1f}/{sample.total_bytes / _GIB:.1f} GiB "
    return ((numbers, "text" if tone == "accent" else tone), *bar(ratio, 8, tone))
