"""One run of the runner: load, warm up, colorize and measure, profile if asked, report.

Everything in the report is measured here or computed by arithmetic; `predicted` is null, for the parent to fill.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

import numpy as np

from gpuwatch.errors import GpuwatchError, JobError, UsageError
from gpuwatch.texts import Text, plain, render, text
from gpuwatch_runner import device as devices
from gpuwatch_runner import weights
from gpuwatch_runner.colorize import Colorizer, Prepared
from gpuwatch_runner.command import Job
from gpuwatch_runner.cost import gflop_per_image, tokens_per_image
from gpuwatch_runner.events import Channel, narrate
from gpuwatch_runner.photo import find_images, output_path, write_whole


@dataclass(slots=True)
class Tally:
    """What a run has done so far."""

    images: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    network_seconds: list[float] = field(default_factory=list)
    """Seconds of a warm network pass, divided by the images in it."""
    passes: int = 0
    """Images through the whole path, repeats included."""
    seconds: float = 0.0
    """Wall time of those."""
    traces: list[str] = field(default_factory=list)
    profiling: dict[str, Any] | None = None
    """What profiling cost."""


class Run:
    """Carries out a job and says what happens as it happens."""

    def __init__(self, job: Job, channel: Channel) -> None:
        self.job = job
        self.channel = channel
        self.tally = Tally()
        self._taken: set[Path] = set()

    def carry_out(self) -> int:
        """Run to the report; gives the exit code: 0, or 2 where an input could not be read."""
        job = self.job
        images, unusable = find_images(list(job.paths))
        if not images:
            for path, error in unusable:
                self._fail(path, error.message)
            raise UsageError(text("There is no image to colorize"), text("Name image files, or a directory of them"))
        for folder in (job.out, job.trace_folder if job.profile else None):
            _make_folder(folder)

        device = devices.choose(job.device)
        watch = devices.MemoryWatch(device)
        if job.memory_limit_bytes is not None:
            narrate(devices.limit_memory(device, job.memory_limit_bytes))
        started = perf_counter()
        if job.checkpoint is None:
            variant = job.variant or "tiny"
            state = weights.random_state(variant)
            narrate(text("No checkpoint: the weights are random, so the colours mean nothing; times and memory do"))
        else:
            state, variant = weights.read_checkpoint(job.checkpoint, job.variant)
        network = weights.build(state, variant, job.rewrite)
        del state
        colorizer = Colorizer(network, device, size_px=job.size_px, dtype=job.dtype)
        load_seconds = perf_counter() - started

        settings: dict[str, Any] = {
            "device": str(device),
            "variant": variant,
            "size": job.size_px,
            "dtype": job.dtype,
            "rewrite": job.rewrite,
            "batch": job.batch,
            "weights": "checkpoint" if job.checkpoint else "random",
        }
        self.channel.say("started", images=len(images), **settings)
        self._stage("load", load_seconds)
        for path, error in unusable:
            self._fail(path, error.message)
        if job.out is None:
            narrate(text("Nothing is written: add --out DIR to keep the colorized photos"))
        if device.type == "cpu" and job.dtype == "amp16":
            narrate(text("amp16 on the CPU is slower than fp32; it is meant for CUDA"))

        first_seconds = self._warm_up(colorizer, min(job.batch, len(images)))
        watch.look()
        readable = self._colorize(colorizer, images, watch)
        if job.profile and readable:
            self._profile(colorizer, readable[0])
        self.channel.say(
            "report",
            images=self.tally.images,
            failed=self.tally.failed,
            **settings,
            load_seconds=load_seconds,
            first_seconds=first_seconds,
            warm_seconds=_percentiles(self.tally.network_seconds),
            images_per_second=self.tally.passes / self.tally.seconds if self.tally.passes else None,
            peak_allocated_bytes=watch.allocated_bytes,
            peak_reserved_bytes=watch.reserved_bytes,
            peak_device_bytes=watch.device_bytes,
            host_rss_bytes=devices.host_peak_bytes(),
            gflop_per_image=round(gflop_per_image(variant, job.size_px, job.rewrite), 3),
            tokens_per_image=tokens_per_image(job.size_px, job.size_px),
            trace_files=self.tally.traces,
            profiling=self.tally.profiling,
            predicted=None,
        )
        return UsageError.exit_code if self.tally.failed else 0

    def _warm_up(self, colorizer: Colorizer, batch: int) -> float:
        """The first pass, on grey: what a cold start costs, so that every later number is of a warm network."""
        grey = np.full((self.job.size_px, self.job.size_px), 0.5, np.float32)
        _, seconds = colorizer.infer([grey] * batch)
        self._stage("warm_up", seconds)
        return seconds

    def _colorize(self, colorizer: Colorizer, images: list[Path], watch: devices.MemoryWatch) -> list[Path]:
        """Colorize all images, `repeat` times; gives those that could be read."""
        readable: list[Path] = []
        done = 0
        started = perf_counter()
        for batch in _batches(images, self.job.batch):
            done += len(batch)
            ready = [(path, *found) for path in batch if (found := self._prepare(colorizer, path)) is not None]
            if not ready:
                continue
            colours, seconds = colorizer.infer([prepared.grey for _, prepared, _ in ready])
            watch.look()
            self.tally.network_seconds.append(seconds / len(ready))
            for index, ((path, prepared, prepare_seconds), ab) in enumerate(zip(ready, colours, strict=True)):
                finishing = perf_counter()
                try:
                    out = self._write(colorizer, path, prepared, ab)
                except GpuwatchError as error:
                    self._fail(path, error.message)
                    continue
                readable.append(path)
                self.tally.images += 1
                self.channel.say(
                    "image",
                    path=str(path),
                    out=None if out is None else str(out),
                    seconds=prepare_seconds + seconds / len(ready) + perf_counter() - finishing,
                    done=done - len(ready) + index + 1,
                    images=len(images),
                )
        self._count(started, len(readable))
        for _ in range(self.job.repeat - 1):
            started = perf_counter()
            for batch in _batches(readable, self.job.batch):
                again = [colorizer.prepare(path) for path in batch]
                colours, seconds = colorizer.infer([each.grey for each in again])
                watch.look()
                self.tally.network_seconds.append(seconds / len(batch))
                for each, ab in zip(again, colours, strict=True):
                    colorizer.finish(each, ab)
            self._stage("repeat", self._count(started, len(readable)))
        return readable

    def _prepare(self, colorizer: Colorizer, path: Path) -> tuple[Prepared, float] | None:
        started = perf_counter()
        try:
            return colorizer.prepare(path), perf_counter() - started
        except UsageError as error:
            self._fail(path, error.message)
            return None

    def _write(self, colorizer: Colorizer, path: Path, prepared: Prepared, ab: Any) -> Path | None:
        content = colorizer.finish(prepared, ab)
        if self.job.out is None:
            return None
        out = output_path(self.job.out, path, prepared.photo.output_format, self._taken)
        try:
            write_whole(out, content)
        except OSError as error:
            raise JobError(text("{path} cannot be written: {reason}", path=out, reason=plain(str(error)))) from error
        return out

    def _profile(self, colorizer: Colorizer, path: Path) -> None:
        from gpuwatch_runner.profiling import profile_photo  # noqa: PLC0415 - off means not even imported

        started = perf_counter()
        profiled = profile_photo(colorizer, path, self.job.trace_folder)
        self.tally.traces += profiled.files
        self.tally.profiling = profiled.as_json()
        self._stage("profile", perf_counter() - started)

    def _count(self, started: float, images: int) -> float:
        seconds = perf_counter() - started
        self.tally.seconds += seconds
        self.tally.passes += images
        return seconds

    def _stage(self, stage: str, seconds: float) -> None:
        self.channel.say("stage", stage=stage, seconds=seconds)

    def _fail(self, path: Path, message: Text) -> None:
        self.tally.failed.append({"path": str(path), "message": render(message, "en")})
        self.channel.say("failed", path=str(path), message=message)


def _make_folder(folder: Path | None) -> None:
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = plain(error.strerror or str(error))
        raise UsageError(text("The directory {path} cannot be made: {reason}", path=folder, reason=reason)) from error


def _batches(images: list[Path], size: int) -> Iterator[list[Path]]:
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _percentiles(seconds: list[float]) -> dict[str, float | None]:
    """p50 and p95, interpolated between the samples; of one sample both are that sample, of none unknown."""
    if len(seconds) < 2:
        only = seconds[0] if seconds else None
        return {"p50": only, "p95": only}
    cuts = quantiles(seconds, n=20, method="inclusive")
    return {"p50": cuts[9], "p95": cuts[18]}
