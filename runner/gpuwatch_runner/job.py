"""One run of the runner: load, warm up, colorize and measure, profile if asked, report.

Everything in the report is measured here or computed by arithmetic; `predicted` is null, for the parent to fill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any, NoReturn

import numpy as np
import torch

from gpuwatch.errors import GpuwatchError, JobError, UsageError
from gpuwatch.texts import Text, plain, render, text
from gpuwatch_runner import device as devices
from gpuwatch_runner import weights
from gpuwatch_runner.colorize import Colorizer
from gpuwatch_runner.command import Job
from gpuwatch_runner.cost import gflop_per_image, tokens_per_image
from gpuwatch_runner.ddcolor import Variant
from gpuwatch_runner.degrade import Ladder, Step, ran_out
from gpuwatch_runner.events import Channel, narrate
from gpuwatch_runner.finding import Source, find_images
from gpuwatch_runner.flow import Flow, Item
from gpuwatch_runner.manifest import Manifest, hash_of
from gpuwatch_runner.sizes import require_indexable


@dataclass(slots=True)
class Tally:
    """What a run has done so far."""

    images: int = 0
    dealt: int = 0
    """Photos that are done or failed."""
    failed: list[dict[str, str]] = field(default_factory=list)
    degraded: list[dict[str, Any]] = field(default_factory=list)
    readable: list[Path] = field(default_factory=list)
    network_seconds: list[float] = field(default_factory=list)
    """Seconds of a warm network pass, divided by the images in it."""
    passes: int = 0
    """Images through the whole path, repeats included."""
    seconds: float = 0.0
    """Wall time of those."""
    traces: list[str] = field(default_factory=list)
    profiling: dict[str, Any] | None = None


class Run:
    """Carries out a job and says what happens as it happens."""

    def __init__(self, job: Job, channel: Channel) -> None:
        self.job = job
        self.channel = channel
        self.tally = Tally()
        self.ladder = Ladder(Step(job.rewrite, job.size_px, job.batch), allowed=job.degrade)

    def carry_out(self) -> int:
        """Run to the report; gives the exit code: 0, or 2 where an input could not be read.

        Raises UsageError where there is no image, and the errors of loading and writing with what helps.
        """
        job = self.job
        found = find_images(job.paths, job.out)
        if not found.sources and not found.outputs:
            for path, error in found.failed:
                self._fail(path, error.message)
            raise UsageError(text("There is no image to colorize"), text("Name image files, or a directory of them"))
        if found.outputs:
            narrate(text("Passed over {count} files whose names say that they are outputs", count=found.outputs))
        for folder in (job.out, job.trace_folder if job.profile else None):
            _make_folder(folder)
        with ExitStack() as held:
            manifest = None if job.out is None else held.enter_context(Manifest(job.out))
            return self._run(found.sources, found.failed, manifest)

    def _run(
        self, sources: list[Source], unusable: Sequence[tuple[Path, GpuwatchError]], manifest: Manifest | None
    ) -> int:
        job = self.job
        device = devices.choose(job.device)
        if device.type == "cuda":
            require_indexable(job.size_px, job.batch, job.rewrite)
        if job.tf32 is not None:
            devices.choose_tf32(on=job.tf32)
        watch = devices.MemoryWatch(device)
        if job.memory_limit_bytes is not None:
            narrate(devices.limit_memory(device, job.memory_limit_bytes))
        started = perf_counter()
        state, variant = self._state()
        network = weights.build(dict(state), variant, job.rewrite)
        if not job.compare_fp32:
            state = {}
        colorizer = Colorizer(network, device, size_px=job.size_px, dtype=job.dtype, channels_last=job.channels_last)
        if job.compiled:
            colorizer.compile()
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
        skipped, redone = 0, Counter[str]()
        if manifest is not None:
            sources, redone = self._left_to_do(sources, manifest, variant)
            skipped = redone.pop("done", 0)
        self.channel.say("started", images=len(sources), skipped=skipped, **settings)
        self._stage("load", load_seconds)
        for path, error in unusable:
            self._fail(path, error.message)
        self._narrate_start(device, skipped, redone)

        first_seconds = None
        if sources:
            first_seconds = self._warm_up(colorizer, min(job.batch, len(sources)))
            watch.look()
            self._colorize(colorizer, sources, manifest, watch)
        if job.profile and self.tally.readable:
            self._profile(colorizer, self.tally.readable[0])
        peaks = {
            "peak_allocated_bytes": watch.allocated_bytes,
            "peak_reserved_bytes": watch.reserved_bytes,
            "peak_device_bytes": watch.device_bytes,
            "host_rss_bytes": devices.host_peak_bytes(),
        }
        compared = self._compare(colorizer, state, variant) if job.compare_fp32 and self.tally.readable else None
        self.channel.say(
            "report",
            images=self.tally.images,
            failed=self.tally.failed,
            **settings,
            load_seconds=load_seconds,
            first_seconds=first_seconds,
            warm_seconds=_percentiles(self.tally.network_seconds),
            images_per_second=self.tally.passes / self.tally.seconds if self.tally.passes else None,
            **peaks,
            gflop_per_image=round(gflop_per_image(variant, job.size_px, job.rewrite), 3),
            tokens_per_image=tokens_per_image(job.size_px, job.size_px),
            trace_files=self.tally.traces,
            predicted=None,
            skipped=skipped,
            redone=dict(redone),
            degraded=self.tally.degraded,
            manifest=None if manifest is None else str(manifest.path),
            options={
                "workers": job.workers,
                "channels_last": job.channels_last,
                "compile": job.compiled,
                "tf32": job.tf32,
            },
            against_fp32=compared,
            profiling=self.tally.profiling,
        )
        return UsageError.exit_code if self.tally.failed else 0

    def _state(self) -> tuple[weights.State, Variant]:
        if self.job.checkpoint is not None:
            return weights.read_checkpoint(self.job.checkpoint, self.job.variant)
        variant = self.job.variant or "tiny"
        narrate(text("No checkpoint: the weights are random, so the colours mean nothing; times and memory do"))
        return weights.random_state(variant), variant

    def _left_to_do(
        self, sources: list[Source], manifest: Manifest, variant: Variant
    ) -> tuple[list[Source], Counter[str]]:
        """The sources that are to be done, and how many for which reason; those that are not count as `done`."""
        job = self.job
        settings = {
            "variant": variant,
            "size": job.size_px,
            "rewrite": job.rewrite,
            "dtype": job.dtype,
            "tf32": job.tf32,
            "checkpoint": "random" if job.checkpoint is None else hash_of(job.checkpoint),
        }
        left: list[Source] = []
        reasons = Counter[str]()
        for source in sources:
            reason = manifest.reason(source, settings, degrade=job.degrade)
            if reason is None and job.force:
                reason = "forced"
            reasons[reason or "done"] += 1
            if reason is not None:
                left.append(source)
        self._writing(manifest, lambda: manifest.begin(settings))
        del reasons["new"]
        return left, reasons

    def _narrate_start(self, device: torch.device, skipped: int, redone: Counter[str]) -> None:
        if self.job.out is None:
            narrate(text("Nothing is written: add --out DIR to keep the colorized photos"))
        if device.type == "cpu" and self.job.dtype == "amp16":
            narrate(text("amp16 on the CPU is slower than fp32; it is meant for CUDA"))
        if skipped:
            narrate(
                text(
                    "{count} photos are done already, unchanged and with these settings: skipped (--force does them again)",
                    count=skipped,
                )
            )
        for reason, count in sorted(redone.items()):
            narrate(text("{count} photos are done again: {reason}", count=count, reason=REASONS[reason]))

    def _warm_up(self, colorizer: Colorizer, batch: int) -> float:
        """The first pass, on grey: what a cold start costs, so that every later number is of a warm network."""

        def pass_of(step: Step) -> float:
            colorizer.turn_to(step.rewrite, step.size_px)
            grey = np.full((step.size_px, step.size_px), 0.5, np.float32)
            return colorizer.infer([grey] * min(step.batch, batch))[1]

        try:
            seconds = self.ladder.attempt(pass_of)
        except Exception as error:
            if not self.job.compiled or ran_out(error):
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(
                text("torch.compile does not work here: {reason}", reason=plain(reason)),
                text("Leave --compile out; on a CPU it needs a C++ compiler"),
            ) from error
        self._stage("warm_up", seconds)
        return seconds

    def _colorize(
        self, colorizer: Colorizer, sources: list[Source], manifest: Manifest | None, watch: devices.MemoryWatch
    ) -> None:
        """Colorize all sources, `repeat` times; only the first time anything is written."""

        def after_pass(images: int, seconds: float) -> None:
            watch.look()
            self.tally.network_seconds.append(seconds / images)

        def flow(place: Callable[[Source, str], Path | None]) -> Flow:
            return Flow(
                colorizer,
                self.ladder,
                batch=self.job.batch,
                workers=self.job.workers,
                place=place,
                after_pass=after_pass,
            )

        started = perf_counter()
        first = flow(lambda _source, _suffix: None) if manifest is None else flow(manifest.output_of)
        try:
            for item in first.items(sources):
                self._take(item, manifest, len(sources))
        except BaseException as error:
            for item in first.settle():
                if item.stopping is None and not isinstance(error, BrokenPipeError):
                    self._take(item, manifest, len(sources))
            self._narrate_stop(manifest, len(sources))
            raise
        finally:
            first.close()
        self._count(started, self.tally.images)
        readable = [Source(path, Path()) for path in self.tally.readable]
        for _ in range(self.job.repeat - 1):
            again = flow(lambda _source, _suffix: None)
            started = perf_counter()
            try:
                done = sum(item.error is None for item in again.items(readable))
            finally:
                again.close()
            self._stage("repeat", self._count(started, done))

    def _take(self, item: Item, manifest: Manifest | None, images: int) -> None:
        """Put down what came of a photo: in the manifest first, then for whoever listens."""
        path, out = item.source.path, item.output
        if item.stopping is not None:
            _raise_stopped(item.stopping, out or path)
        self.tally.dealt += 1
        if item.error is not None:
            if manifest is not None:
                message = render(item.error.message, "en")
                self._writing(manifest, lambda: manifest.add_failed(item.source, message))
            self._fail(path, item.error.message, done=self.tally.dealt, images=images)
            return
        notes: dict[str, Any] = {}
        if item.used is not None:
            notes["used"] = item.used.as_json()
            self.tally.degraded.append({"path": str(path), **item.used.as_json()})
        if item.frames > 1:
            notes["frames"] = item.frames
            narrate(text("{path} has {count} frames; the first is taken", path=path, count=item.frames))
        if manifest is not None and out is not None and item.status is not None:
            status = item.status
            self._writing(manifest, lambda: manifest.add_done(item.source, status, out, notes))
        self.tally.images += 1
        self.tally.readable.append(path)
        self.channel.say(
            "image",
            path=str(path),
            out=None if out is None else str(out),
            seconds=item.seconds,
            done=self.tally.dealt,
            images=images,
            **notes,
        )

    def _writing(self, manifest: Manifest, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            _raise_stopped(error, manifest.path)

    def _narrate_stop(self, manifest: Manifest | None, images: int) -> None:
        if manifest is not None:
            narrate(
                text(
                    "Stopped after {count} of {images} photos. They are whole, and the same command goes on from there.",
                    count=self.tally.dealt,
                    images=images,
                )
            )

    def _profile(self, colorizer: Colorizer, path: Path) -> None:
        from gpuwatch_runner.profiling import profile_photo  # noqa: PLC0415 - off means not even imported

        started = perf_counter()
        profiled = profile_photo(colorizer, path, self.job.trace_folder)
        self.tally.traces += profiled.files
        self.tally.profiling = profiled.as_json()
        self._stage("profile", perf_counter() - started)

    def _compare(self, colorizer: Colorizer, state: weights.State, variant: Variant) -> dict[str, Any]:
        from gpuwatch_runner.compare import against_fp32  # noqa: PLC0415

        reference = weights.build(state, variant, colorizer.network.rewrite)
        return against_fp32(colorizer, reference, self.tally.readable)

    def _count(self, started: float, images: int) -> float:
        seconds = perf_counter() - started
        self.tally.seconds += seconds
        self.tally.passes += images
        return seconds

    def _stage(self, stage: str, seconds: float) -> None:
        self.channel.say("stage", stage=stage, seconds=seconds)

    def _fail(self, path: Path, message: Text, **progress: int) -> None:
        self.tally.failed.append({"path": str(path), "message": render(message, "en")})
        self.channel.say("failed", path=str(path), message=message, **progress)


REASONS = {
    "input_changed": text("the photo has changed"),
    "output_missing": text("the output is not there any more, or is not the one that was written"),
    "settings": text("the settings are others now"),
    "degraded": text("memory had run out, and they were done at a smaller size"),
    "failed": text("they failed the last time"),
    "forced": plain("--force"),
}


def _raise_stopped(error: OSError, path: Path) -> NoReturn:
    reason = plain(error.strerror or str(error))
    raise JobError(
        text("{path} cannot be written, so the run ends: {reason}", path=path, reason=reason),
        text("Make room or choose another --out; the same command goes on where this one ended"),
    ) from error


def _make_folder(folder: Path | None) -> None:
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = plain(error.strerror or str(error))
        raise UsageError(text("The directory {path} cannot be made: {reason}", path=folder, reason=reason)) from error


def _percentiles(seconds: list[float]) -> dict[str, float | None]:
    """p50 and p95, interpolated between the samples; of one sample both are that sample, of none unknown."""
    if len(seconds) < 2:
        only = seconds[0] if seconds else None
        return {"p50": only, "p95": only}
    cuts = quantiles(seconds, n=20, method="inclusive")
    return {"p50": cuts[9], "p95": cuts[18]}
