"""The snapshot as Prometheus metrics: over HTTP, or as a file for node_exporter.

Values are read from the snapshot when a scrape comes, so no series can be stale. A metric is one row; its label values are
closed sets, the driver's own uuids, or names that are let in up to a number. Nothing here asks the driver or a server.
"""

from gpuwatch.faces.exporter.metrics import METRICS
from gpuwatch.faces.exporter.page import Page
from gpuwatch.faces.exporter.rows import Row, View
from gpuwatch.faces.exporter.server import DEFAULT_HOST, DEFAULT_PORT, Exporter

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "METRICS", "Exporter", "Page", "Row", "View"]
