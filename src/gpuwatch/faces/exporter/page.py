"""The metrics as text, in Prometheus' own format and in OpenMetrics, which alone has exemplars.

Written here because prometheus_client takes five times as long for a thousand series; a test holds both to the same page. A
row that fails leaves its metric out and is counted: one metric's fault never takes the page from the others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from itertools import accumulate

from prometheus_client.utils import floatToGoString

from gpuwatch.adapters.clock import utc_now
from gpuwatch.core.rules import RuleSet
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.core.tallies import Histogram
from gpuwatch.faces.exporter.metrics import FAILED, METRICS
from gpuwatch.faces.exporter.repeating import PushCounts
from gpuwatch.faces.exporter.rows import Row, Samples, Serving, Value, View

LONGEST_VALUE = 100
PLAIN_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPEN_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Page:
    """Makes the page out of the snapshot of the moment."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        rules: RuleSet,
        *,
        workloads: Iterable[str] = (),
        serving: Callable[[], Serving] = Serving,
        pushes: PushCounts | None = None,
        notified: Callable[[], Mapping[str, int]] = dict,
        clock: Callable[[], datetime] = utc_now,
        rows: Iterable[Row] = METRICS,
    ) -> None:
        self._snapshot = snapshot
        self._rules = rules
        self._workloads = tuple(workloads)
        self._serving = serving
        self._pushes: PushCounts = Counter() if pushes is None else pushes
        self._notified = notified
        self._clock = clock
        self._rows = tuple(row for row in rows if row is not FAILED)

    def view(self) -> View:
        """What there is to read the metrics from, now."""
        snapshot, rules = self._snapshot(), self._rules
        return View(
            snapshot,
            snapshot.rules or rules,
            self._workloads,
            self._clock(),
            self._serving(),
            self._pushes,
            self._notified(),
        )

    def text(self, *, openmetrics: bool = False, more: str = "") -> bytes:
        """Every metric with its values of now. `more` is what else belongs on the page, in the same format."""
        view = self.view()
        lines: list[str] = []
        failed = 0
        for row in self._rows:
            try:
                lines += list(lines_of(row, view, openmetrics=openmetrics))
            except Exception:  # noqa: BLE001 - counted, and shown by its absence
                failed += 1
        lines += [*head(FAILED, openmetrics=openmetrics), f"{FAILED.name} {failed}.0\n", more]
        if openmetrics:
            lines.append("# EOF\n")
        return "".join(lines).encode()


def lines_of(row: Row, view: View, *, openmetrics: bool) -> Iterator[str]:
    """One metric: what it is, then a line for each sample."""
    yield from head(row, openmetrics=openmetrics)
    for words, sample in distinct(row.labels, row.samples(view)):
        if isinstance(sample.value, Histogram):
            yield from histogram_lines(row.name, words, sample.value)
            continue
        line = f"{row.name}{{{words}}} {number(sample.value)}" if words else f"{row.name} {number(sample.value)}"
        if openmetrics and sample.exemplar is not None:
            line += f' # {{incident="{sample.exemplar.incident_id}"}} 1.0 {sample.exemplar.at.timestamp():.3f}'
        yield line + "\n"


def head(row: Row, *, openmetrics: bool) -> Iterator[str]:
    """What the metric means and what it is."""
    name = row.name.removesuffix("_total") if openmetrics and row.kind == "counter" else row.name
    yield f"# HELP {name} {row.help}\n"
    yield f"# TYPE {name} {row.kind}\n"


def histogram_lines(name: str, words: str, histogram: Histogram) -> Iterator[str]:
    """The counts summed up to each bound, then all of them and their sum."""
    counts = histogram.counts or (0,) * (len(histogram.bounds) + 1)
    before = f"{words}," if words else ""
    for bound, count in zip(bounds_of(histogram.bounds), accumulate(counts), strict=True):
        yield f'{name}_bucket{{{before}le="{bound}"}} {count}.0\n'
    after = f"{{{words}}}" if words else ""
    yield f"{name}_count{after} {sum(counts)}.0\n"
    yield f"{name}_sum{after} {number(histogram.total)}\n"


@lru_cache(maxsize=64)
def bounds_of(bounds: tuple[float, ...]) -> tuple[str, ...]:
    """A histogram's bounds as labels."""
    return (*map(number, bounds), "+Inf")


def distinct(names: tuple[str, ...], samples: Samples) -> Iterator[tuple[str, Value]]:
    """Each sample with its labels as they are written; of those that then look the same, the first."""
    seen: set[str] = set()
    places = sorted((name, place) for place, name in enumerate(names))
    for each in samples:
        words = ",".join([f'{name}="{label_value(each.labels[place])}"' for name, place in places])
        if words not in seen:
            seen.add(words)
            yield words, each


@lru_cache(maxsize=4096)
def label_value(value: str) -> str:
    """A label's value, quoted."""
    return plain_value(value).replace("\\", "\\\\").replace('"', '\\"')


def plain_value(value: str) -> str:
    """A label's value that every reader can take: no control characters, no halves of characters, not long."""
    return _UNSHOWN.sub("?", value[:LONGEST_VALUE].encode("utf-8", "replace").decode("utf-8"))


def number(value: float) -> str:
    """A number as the library writes it."""
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # the library's own
