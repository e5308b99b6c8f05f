"""One run of the runner: load, warm up, colorize and measure, profile if asked, report.

Everything in the report is measured here or computed by arithmetic; `predicted` is null, for the parent to fill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn

import numpy as np
import torch

from gpuwatch.errors import GpuwatchError, JobError, UsageError
from gpuwatch.texts import Text, plain, render, text
from gpuwatch_runner import device as devices
from gpuwatch_runner import narration, weights
from gpuwatch_runner.colorize import Colorizer
from gpuwatch_runner.command import Job
from gpuwatch_runner.cost import gflop_per_image, tokens_per_image
from gpuwatch_runner.ddcolor import Variant
from gpuwatch_runner.degrade import Ladder, Step, ran_out
from gpuwatch_runner.events import Channel, narrate
from gpuwatch_runner.finding import Source, find_images
from gpuwatch_runner.flow import Flow, Item
from gpuwatch_runner.loading import Loaded, device_for, load
from gpuwatch_runner.manifest import Manifest, hash_of
from gpuwatch_runner.tally import Tally


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
        narration.found(found)
        for folder in (job.out, job.trace_folder if job.profile else None):
            _make_folder(folder)
        with ExitStack() as held:
            manifest = None if job.out is None else held.enter_context(Manifest(job.out))
            return self._run(found.sources, found.failed, manifest)

    def _run(
        self, sources: list[Source], unusable: Sequence[tuple[Path, GpuwatchError]], manifest: Manifest | None
    ) -> int:
        job = self.job
        device = device_for(job)
        watch = devices.MemoryWatch(device)
        if job.memory_limit_bytes is not None:
            narrate(devices.limit_memory(device, job.memory_limit_bytes))
        loaded = load(job, device)
        settings = self._settings(device, loaded.variant)
        skipped, redone = 0, Counter[str]()
        if manifest is not None:
            sources, redone = self._left_to_do(sources, manifest, loaded.variant)
            skipped = redone.pop("done", 0)
        self.channel.say("started", images=len(sources), skipped=skipped, **settings)
        self._stage("load", loaded.seconds)
        for path, error in unusable:
            self._fail(path, error.message)
        narration.begun(job, device, skipped, redone)

        first_seconds = None
        if sources:
            first_seconds = self._warm_up(loaded.colorizer, min(job.batch, len(sources)))
            watch.look()
            self._colorize(loaded.colorizer, sources, manifest, watch)
        if job.profile and self.tally.readable:
            self._profile(loaded.colorizer, self.tally.readable[0])
        peaks = peaks_json(watch)  # before fp32 runs beside it, which the job itself does not need
        compared = self._compare(loaded) if job.compare_fp32 and self.tally.readable else None
        self.channel.say(
            "report",
            **self.tally.as_json(),
            **settings,
            **peaks,
            load_seconds=loaded.seconds,
            first_seconds=first_seconds,
            gflop_per_image=round(gflop_per_image(loaded.variant, job.size_px, job.rewrite), 3),
            tokens_per_image=tokens_per_image(job.size_px, job.size_px),
            predicted=None,
            skipped=skipped,
            redone=dict(redone),
            manifest=None if manifest is None else str(manifest.path),
            options={
                "workers": job.workers,
                "channels_last": job.channels_last,
                "compile": job.compiled,
                "tf32": job.tf32,
            },
            against_fp32=compared,
        )
        return UsageError.exit_code if self.tally.failed else 0

    def _settings(self, device: torch.device, variant: Variant) -> dict[str, Any]:
        """What is run, as its beginning and its report say it."""
        job = self.job
        return {
            "device": str(device),
            "variant": variant,
            "size": job.size_px,
            "dtype": job.dtype,
            "rewrite": job.rewrite,
            "batch": job.batch,
            "weights": "checkpoint" if job.checkpoint else "random",
        }

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
            if manifest is not None:
                narration.stopped(self.tally.dealt, len(sources))
            raise
        finally:
            first.close()
        self.tally.count(self.tally.images, perf_counter() - started)
        readable = [Source(path, Path()) for path in self.tally.readable]
        for _ in range(self.job.repeat - 1):
            again = flow(lambda _source, _suffix: None)
            started = perf_counter()
            try:
                done = sum(item.error is None for item in again.items(readable))
            finally:
                again.close()
            seconds = perf_counter() - started
            self.tally.count(done, seconds)
            self._stage("repeat", seconds)

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
            narration.only_first_frame(path, item.frames)
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

    def _profile(self, colorizer: Colorizer, path: Path) -> None:
        from gpuwatch_runner.profiling import profile_photo  # noqa: PLC0415 - off means not even imported

        started = perf_counter()
        profiled = profile_photo(colorizer, path, self.job.trace_folder)
        self.tally.traces += profiled.files
        self.tally.profiling = profiled.as_json()
        self._stage("profile", perf_counter() - started)

    def _compare(self, loaded: Loaded) -> dict[str, Any]:
        from gpuwatch_runner.compare import against_fp32  # noqa: PLC0415

        reference = weights.build(loaded.state, loaded.variant, loaded.colorizer.network.rewrite)
        return against_fp32(loaded.colorizer, reference, self.tally.readable)

    def _stage(self, stage: str, seconds: float) -> None:
        self.channel.say("stage", stage=stage, seconds=seconds)

    def _fail(self, path: Path, message: Text, **progress: int) -> None:
        self.tally.failed.append({"path": str(path), "message": render(message, "en")})
        self.channel.say("failed", path=str(path), message=message, **progress)


def peaks_json(watch: devices.MemoryWatch) -> dict[str, int | None]:
    """The most memory that was held, in bytes, as the report says it."""
    return {
        "peak_allocated_bytes": watch.allocated_bytes,
        "peak_reserved_bytes": watch.reserved_bytes,
        "peak_device_bytes": watch.device_bytes,
        "host_rss_bytes": devices.host_peak_bytes(),
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
        raise UsageError(
            text("The directory {path} cannot be made: {reason}", path=folder, reason=reason),
            text("Name another one, or give yourself the right to write there"),
        ) from error
