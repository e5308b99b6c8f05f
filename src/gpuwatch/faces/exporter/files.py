"""Metrics and addresses as files: a page for node_exporter's textfile collector, a target for Prometheus' file discovery."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from pathlib import Path

from gpuwatch.adapters.whole_file import FOR_ALL, write_whole
from gpuwatch.errors import UsageError
from gpuwatch.faces.exporter.page import Page
from gpuwatch.faces.exporter.repeating import EVERY_SECONDS, PushCounts, Repeating
from gpuwatch.faces.narration import Narrate, in_words
from gpuwatch.texts import text

PAGE = "gpuwatch.prom"
_ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - recognised here, not bound to
_SUFFIXES = {".json", ".yml", ".yaml"}


class Textfile:
    """Writes the page into a folder again and again, and takes it away at the end: nobody reads what is no longer so."""

    def __init__(
        self,
        place: Path,
        page: Page,
        *,
        every_seconds: float = EVERY_SECONDS,
        counts: PushCounts | None = None,
        say: Narrate = in_words,
    ) -> None:
        self.path = page_path(place)
        self._page = page
        self.write()
        self._repeating = Repeating("textfile", self.write, every_seconds, counts=counts, say=say)

    def write(self) -> None:
        """Write the page once. Raises UsageError where that cannot be done."""
        # Without what is told of our process: node_exporter tells that of its own under the same names.
        write_whole(self.path, self._page.text(), mode=FOR_ALL)

    def close(self) -> None:
        """Stop writing; the page goes."""
        self._repeating.close()
        with suppress(OSError):
            self.path.unlink()


def page_path(place: Path) -> Path:
    """Where the page goes: into a folder, or under a name that node_exporter reads.

    Raises UsageError for a name that it does not.
    """
    if place.is_dir():
        return place / PAGE
    if place.suffix == ".prom" and place.parent.is_dir():
        return place
    if place.parent.is_dir() and place.suffix:
        raise UsageError(
            text("{path}: node_exporter reads only names that end in .prom.", path=str(place)),
            text("Name it {page}, or name its folder alone.", page=PAGE),
        )
    raise UsageError(
        text("{folder} is no folder.", folder=str(place.parent if place.suffix == ".prom" else place)),
        text("Name the folder that node_exporter reads: --collector.textfile.directory."),
    )


class Discovery:
    """A file that Prometheus' file_sd_configs reads: one target, this exporter. It goes when the exporter does."""

    def __init__(self, path: Path, host_name: str, port: int, scheme: str) -> None:
        if path.suffix not in _SUFFIXES:
            raise UsageError(
                text("{path}: Prometheus reads only .json, .yml and .yaml.", path=str(path)),
                text("Name it gpuwatch.json."),
            )
        name = socket.gethostname() if host_name in _ANYWHERE else host_name
        target = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        labels = {"job": "gpuwatch", "__scheme__": scheme, "__metrics_path__": "/metrics"}
        self._path = path
        self._content = json.dumps([{"targets": [target], "labels": labels}], indent=2).encode() + b"\n"
        write_whole(path, self._content, mode=FOR_ALL)

    def close(self) -> None:
        """Take the file away, unless somebody else has written there since."""
        with suppress(OSError):
            if self._path.read_bytes() == self._content:
                self._path.unlink()
