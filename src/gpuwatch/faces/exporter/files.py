"""Metrics and addresses as files: a page for node_exporter's textfile collector, a target for Prometheus' file discovery."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from gpuwatch.adapters.whole_file import write_whole
from gpuwatch.core.rules import RuleSet
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.errors import GpuwatchError, UsageError
from gpuwatch.faces.exporter.page import Page
from gpuwatch.faces.narration import Narrate, in_words
from gpuwatch.texts import text

PAGE = "gpuwatch.prom"
EVERY_SECONDS = 15.0
_ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - recognised here, not bound to
_SUFFIXES = {".json", ".yml", ".yaml"}


class Textfile:
    """Writes the page into a folder again and again, and takes it away at the end: nobody reads what is no longer so."""

    def __init__(
        self,
        folder: Path,
        snapshot: Callable[[], Snapshot],
        rules: RuleSet,
        *,
        workloads: Iterable[str] = (),
        every_seconds: float = EVERY_SECONDS,
        say: Narrate = in_words,
    ) -> None:
        if not folder.is_dir():
            raise UsageError(
                text("{folder} is no folder.", folder=str(folder)),
                text("Name the folder that node_exporter reads: --collector.textfile.directory."),
            )
        self._path = folder / PAGE
        self._every_seconds = every_seconds
        self._say = say
        # Without what is told of our process: node_exporter tells that of its own under the same names.
        self._page = Page(snapshot, rules, workloads=workloads)
        self._stop = threading.Event()
        self.write()
        self._thread = threading.Thread(target=self._run, name="textfile", daemon=True)
        self._thread.start()

    def write(self) -> None:
        """Write the page once. Raises UsageError where that cannot be done."""
        write_whole(self._path, self._page.text())

    def close(self) -> None:
        """Stop writing; the page goes."""
        self._stop.set()
        self._thread.join()
        with suppress(OSError):
            self._path.unlink()

    def _run(self) -> None:
        told = False
        while not self._stop.wait(self._every_seconds):
            try:
                self.write()
                told = False
            except GpuwatchError as error:
                if not told:
                    self._say(error.message, event="textfile", level="error")
                told = True


def write_discovery(path: Path, host_name: str, port: int, scheme: str) -> None:
    """Write a file that Prometheus' file_sd_configs reads: one target, this exporter."""
    if path.suffix not in _SUFFIXES:
        raise UsageError(
            text("{path}: Prometheus reads only .json, .yml and .yaml.", path=str(path)),
            text("Name it gpuwatch.json."),
        )
    name = socket.gethostname() if host_name in _ANYWHERE else host_name
    target = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    labels = {"job": "gpuwatch", "__scheme__": scheme, "__metrics_path__": "/metrics"}
    write_whole(path, json.dumps([{"targets": [target], "labels": labels}], indent=2).encode() + b"\n")
