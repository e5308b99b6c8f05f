"""Every metric. The page's own count of what it could not make stands last; `page.py` fills it in."""

from __future__ import annotations

from gpuwatch.faces.exporter import failures, machine, own, work
from gpuwatch.faces.exporter.rows import Row

FAILED = Row(
    "gpuwatch_scrape_failed_metrics",
    "Metrics that could not be made in this scrape and are missing from it.",
    (),
    lambda _view: [],
    unit="metrics",
)
METRICS: tuple[Row, ...] = (*own.ROWS, *machine.ROWS, *failures.ROWS, *work.ROWS, FAILED)
