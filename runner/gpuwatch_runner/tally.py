"""What a run has done so far, and what its report says of that. Nothing is measured here: times and results are put in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any


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

    def count(self, images: int, seconds: float) -> None:
        """Add images that went through the whole path, and the wall time that they took."""
        self.passes += images
        self.seconds += seconds

    def as_json(self) -> dict[str, Any]:
        """Its part of the report."""
        return {
            "images": self.images,
            "failed": self.failed,
            "warm_seconds": percentiles(self.network_seconds),
            "images_per_second": self.passes / self.seconds if self.passes else None,
            "trace_files": self.traces,
            "degraded": self.degraded,
            "profiling": self.profiling,
        }


def percentiles(seconds: list[float]) -> dict[str, float | None]:
    """p50 and p95, interpolated between the samples; of one sample both are that sample, of none unknown."""
    if len(seconds) < 2:
        only = seconds[0] if seconds else None
        return {"p50": only, "p95": only}
    cuts = quantiles(seconds, n=20, method="inclusive")
    return {"p50": cuts[9], "p95": cuts[18]}
