"""Photos through the network with decoding ahead of it and encoding behind, in threads; what comes out is in order.

Bounded at both ends: photos under way hold no more than AHEAD_BYTES in all, however many there are, except that one is
always let in. The network itself runs on the caller's thread, so that an interrupt reaches it.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from PIL import Image

from gpuwatch.errors import GpuwatchError, JobError
from gpuwatch.texts import plain, text
from gpuwatch_runner.colorize import Colorizer, Prepared, grey_of
from gpuwatch_runner.degrade import Ladder, Step
from gpuwatch_runner.finding import Source, unreadable
from gpuwatch_runner.lab import Floats
from gpuwatch_runner.photo import SUFFIXES, write_whole
from gpuwatch_runner.transfer import Pass

AHEAD_BYTES = 1 << 30
BYTES_A_PIXEL = 12
"""Of a photo while it is decoded or encoded, about: measured at 60 megapixels."""
STOPPING = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS))
"""Errors in writing that the next photo would meet too."""


@dataclass(slots=True)
class Item:
    """A photo on its way."""

    source: Source
    cost_bytes: int = 0
    status: os.stat_result | None = None
    """Of the file before it was read."""
    prepared: Prepared | None = None
    frames: int = 1
    used: Step | None = None
    """How it was run, where that is less than was asked for."""
    output: Path | None = None
    seconds: float = 0.0
    """In its own decoding, network share and encoding, not in waiting."""
    error: GpuwatchError | None = None
    stopping: OSError | None = None
    """Why no output can be written any more: the disk is full, or may not be written."""


class Flow:
    """Takes photos through one colorizer."""

    def __init__(
        self,
        colorizer: Colorizer,
        ladder: Ladder,
        *,
        batch: int,
        workers: int,
        place: Callable[[Source, str], Path | None],
        after_pass: Callable[[int, float], None],
    ) -> None:
        """`place` gives where an output goes, None for nowhere; `after_pass` is told the images of a pass and its seconds."""
        self._colorizer = colorizer
        self._ladder = ladder
        self._batch = batch
        self._place = place
        self._after_pass = after_pass
        self._ahead = max(1, 2 * workers) + batch - 1 if workers else batch
        self._depth = 1 if colorizer.device.type == "cuda" and workers else 0
        """Passes under way while the next is started."""
        self._decoding: Executor = ThreadPoolExecutor(workers, "decode") if workers else _Here()
        self._finishing: Executor = ThreadPoolExecutor(workers, "encode") if workers else _Here()
        self._held_bytes = 0
        self._waiting: deque[Future[Item]] = deque()
        self._under_way: deque[tuple[list[Item], list[tuple[list[Item], Pass]]]] = deque()
        self._leaving: deque[Future[Item]] = deque()

    def items(self, sources: Iterable[Source]) -> Iterator[Item]:
        """Give each source's item, in order, once its output is on disk or it has failed."""
        coming = iter(sources)
        following = next(coming, None)
        group: list[Item] = []
        while following is not None or self._waiting or group or self._under_way or self._leaving:
            while following is not None and len(self._waiting) < self._ahead:
                cost_bytes = _cost_of(following.path)
                if self._held_bytes and self._held_bytes + cost_bytes > AHEAD_BYTES:
                    break
                self._held_bytes += cost_bytes
                self._waiting.append(self._decoding.submit(self._decode, Item(following, cost_bytes)))
                following = next(coming, None)
            if self._waiting:
                group.append(self._waiting.popleft().result())
            ready = sum(item.prepared is not None for item in group)
            if group and (ready >= self._batch or not self._waiting):
                self._start(group)
                group = []
            while len(self._under_way) > self._depth or (self._under_way and not self._waiting and not group):
                self._collect()
            # Room for more is only made by what leaves.
            full = not self._waiting and not group and not self._under_way
            while self._leaving and (full or self._leaving[0].done() or len(self._leaving) > self._ahead):
                full = False
                yield self._left(self._leaving.popleft())

    def settle(self) -> list[Item]:
        """Take nothing further in and give what leaves all the same, in order: for a run that is stopped."""
        self._decoding.shutdown(wait=False, cancel_futures=True)
        self._finishing.shutdown(wait=True, cancel_futures=True)
        settled = [future.result() for future in self._leaving if not future.cancelled() and future.exception() is None]
        self._leaving.clear()
        return settled

    def close(self) -> None:
        """End the threads."""
        self._decoding.shutdown(wait=False, cancel_futures=True)
        self._finishing.shutdown(wait=True, cancel_futures=True)

    def _left(self, future: Future[Item]) -> Item:
        item = future.result()
        self._held_bytes -= item.cost_bytes
        return item

    def _decode(self, item: Item) -> Item:
        started = perf_counter()
        try:
            with suppress(OSError):
                item.status = item.source.path.stat()
            item.prepared = self._colorizer.prepare(item.source.path)
            item.frames = item.prepared.photo.frames
        except GpuwatchError as error:
            item.error = error
        except Exception as error:  # noqa: BLE001 - decoders raise anything on a damaged file, which is that photo's failure
            item.error = unreadable(item.source.path, error)
        item.seconds = perf_counter() - started
        return item

    def _start(self, group: list[Item]) -> None:
        """Start the passes of a group, as many as the batch of the present step needs."""
        ready = [item for item in group if item.prepared is not None]
        passes: list[tuple[list[Item], Pass]] = []
        while ready:
            part, under_way = self._ladder.attempt(partial(self._launch, ready))
            self._ladder.count(len(part))
            passes.append((part, under_way))
            ready = ready[len(part) :]
        self._under_way.append((group, passes))

    def _launch(self, ready: list[Item], step: Step) -> tuple[list[Item], Pass]:
        part = ready[: step.batch]
        if (self._colorizer.network.rewrite, self._colorizer.size_px) != (step.rewrite, step.size_px):
            self._colorizer.turn_to(step.rewrite, step.size_px)
        greys = [_grey(item, step.size_px) for item in part]
        under_way = self._colorizer.launch(greys)
        for item in part:
            item.used = step if self._ladder.degraded else None
        return part, under_way

    def _collect(self) -> None:
        group, passes = self._under_way.popleft()
        colours: dict[int, Floats] = {}
        for part, under_way in passes:
            found, seconds = under_way.collect()
            self._after_pass(len(part), seconds)
            for item, ab in zip(part, found, strict=True):
                item.seconds += seconds / len(part)
                colours[id(item)] = ab
        for item in group:
            if item.prepared is not None:
                item.output = self._place(item.source, SUFFIXES[item.prepared.photo.output_format])
                self._leaving.append(self._finishing.submit(self._finish, item, colours[id(item)]))
            else:
                self._leaving.append(_done(item))

    def _finish(self, item: Item, ab: Floats) -> Item:
        started = perf_counter()
        prepared, item.prepared = item.prepared, None
        try:
            if prepared is not None:
                content = self._colorizer.finish(prepared, ab)
                if item.output is not None:
                    item.output.parent.mkdir(parents=True, exist_ok=True)
                    write_whole(item.output, content)
        except GpuwatchError as error:
            item.error = error
        except Exception as error:  # noqa: BLE001 - as for decoders
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            where = item.output or item.source.path
            item.error = JobError(text("{path} cannot be written: {reason}", path=where, reason=plain(reason)))
            if isinstance(error, OSError) and stops_all(error):
                item.stopping = error
        item.seconds += perf_counter() - started
        return item


def stops_all(error: OSError) -> bool:
    """Whether an error in writing would meet every other photo too."""
    return error.errno in STOPPING


def _grey(item: Item, size_px: int) -> Any:
    if item.prepared is None:
        raise ValueError("a photo that was not decoded has no grey")
    grey = item.prepared.grey
    return grey if grey.shape[0] == size_px else grey_of(item.prepared.photo.rgb, size_px)


def _cost_of(path: Path) -> int:
    """Bytes that a photo will take, from its header; what cannot be read costs nothing."""
    try:
        if path.is_file():
            with Image.open(path) as image:
                return image.width * image.height * BYTES_A_PIXEL
    except Exception:  # noqa: BLE001 - decoding it will say what is wrong
        return 0
    return 0


def _done(item: Item) -> Future[Item]:
    future: Future[Item] = Future()
    future.set_result(item)
    return future


class _Here(Executor):
    """Runs what it is given at once, on the caller's thread."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **named))
        return future
