"""The metrics as points of OpenTelemetry's data model, made of the snapshot when a push is due: nothing is counted twice.

What is kept between two pushes is what the last one told, for delta temporality and to notice a counter that began anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gpuwatch.core.tallies import Histogram
from gpuwatch.faces.exporter.machine import latest
from gpuwatch.faces.exporter.metrics import METRICS
from gpuwatch.faces.exporter.otel_names import attributes_of, named
from gpuwatch.faces.exporter.page import plain_value
from gpuwatch.faces.exporter.rows import Row, Value, View

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import HistogramDataPoint, Metric, NumberDataPoint

Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Told:
    """What a push told of one series."""

    value: float | Histogram
    began_ns: int
    """Since when it counts."""


@dataclass(slots=True)
class Points:
    """Makes the points of one push, and remembers what the collector was told."""

    began_ns: int
    deltas: frozenset[str] = frozenset()
    _told: dict[Key, Told] = field(default_factory=dict)
    _told_ns: int = 0
    _telling: dict[Key, Told] = field(default_factory=dict)
    _telling_ns: int = 0

    def metrics(self, view: View) -> list[Metric]:
        """Every metric of now that has a point. One whose values cannot be read is left out, as on the page."""
        self._telling, self._telling_ns = {}, int(view.now.timestamp() * 1e9)
        metrics: list[Metric] = []
        for row in METRICS:
            try:
                points = list(self._points(row, view))
            except Exception:  # noqa: BLE001, S112 - the page counts it
                continue
            if points:
                metrics.append(self._metric(row, points))
        return metrics

    def reached(self) -> None:
        """The collector has taken what was made last."""
        self._told, self._told_ns = self._telling, self._telling_ns

    def _points(self, row: Row, view: View) -> Iterator[NumberDataPoint | HistogramDataPoint]:
        gpus = {plain_value(sample.uuid): sample for sample in latest(view.snapshot)}
        instrument = named(row).instrument
        for value in row.samples(view):
            words = {name: plain_value(word) for name, word in zip(row.labels, value.labels, strict=True)}
            key = (row.name, tuple(sorted(words.items())))
            if key in self._telling:  # two labels that look the same once they are cleaned: the first stands
                continue
            before = self._told.get(key)
            now = Told(value.value, self._began(instrument, value.value, before))
            self._telling[key] = now
            attributes = attributes_of(row, words, gpus)
            if instrument not in self.deltas:
                yield self._point(row, value, now.value, attributes, now.began_ns)
            elif (
                before is not None or "uuid" not in words
            ):  # a driver's count is older than we are: it has no first delta
                since = less(now.value, before.value) if before is not None else now.value
                yield self._point(row, value, since, attributes, self._told_ns or self.began_ns)

    def _began(self, instrument: str, value: float | Histogram, before: Told | None) -> int:
        if before is None:
            return self.began_ns
        restarted = instrument in {"counter", "histogram"} and amount(value) < amount(before.value)
        return self._told_ns if restarted else before.began_ns

    def _point(
        self, row: Row, told: Value, value: float | Histogram, attributes: Mapping[str, str], began_ns: int
    ) -> NumberDataPoint | HistogramDataPoint:
        from opentelemetry.sdk.metrics import Exemplar  # noqa: PLC0415 - only where the extra is installed
        from opentelemetry.sdk.metrics.export import HistogramDataPoint, NumberDataPoint  # noqa: PLC0415

        if isinstance(value, Histogram):
            counts = value.counts or (0,) * (len(value.bounds) + 1)
            nothing: Any = (
                None  # neither the smallest nor the largest is known; the format allows that, its types do not
            )
            return HistogramDataPoint(attributes, began_ns, self._telling_ns, sum(counts), value.total, counts,
                                      value.bounds, nothing, nothing)  # fmt: skip
        whole = named(row).unit == "By" or named(row).unit.startswith("{")
        exemplars = [
            Exemplar({"incident": each.incident_id}, 1, int(each.at.timestamp() * 1e9))
            for each in ([told.exemplar] if told.exemplar is not None else [])
        ]
        return NumberDataPoint(attributes, began_ns, self._telling_ns, int(value) if whole else float(value), exemplars)

    def _metric(self, row: Row, points: list[Any]) -> Metric:
        from opentelemetry.sdk.metrics import export  # noqa: PLC0415

        known = named(row)
        delta, cumulative = export.AggregationTemporality.DELTA, export.AggregationTemporality.CUMULATIVE
        since = delta if known.instrument in self.deltas else cumulative
        data: Any
        if known.instrument == "gauge":
            data = export.Gauge(points)
        elif known.instrument == "histogram":
            data = export.Histogram(points, since)
        else:
            data = export.Sum(points, since, is_monotonic=known.instrument == "counter")
        return export.Metric(known.name, row.help, known.unit, data)


def amount(value: float | Histogram) -> float:
    """How much was counted."""
    return float(sum(value.counts)) if isinstance(value, Histogram) else value


def less(now: float | Histogram, before: float | Histogram) -> float | Histogram:
    """What came since; all of it where the count began anew."""
    if amount(now) < amount(before):
        return now
    if not isinstance(now, Histogram) or not isinstance(before, Histogram):
        return amount(now) - amount(before)
    if not before.counts:
        return now
    counts = tuple(each - earlier for each, earlier in zip(now.counts, before.counts, strict=True))
    return Histogram(now.bounds, counts, now.total - before.total)
