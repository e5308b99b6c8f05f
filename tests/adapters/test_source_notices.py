"""A write ends a pause; where nothing tells of it, the pause just passes."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from gpuwatch.adapters.sources import notices
from gpuwatch.adapters.sources.notices import Notices

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells of writes")
FOREVER_SECONDS = 3600.0


@LINUX
def test_a_write_before_or_during_the_pause_ends_it(tmp_path: Path) -> None:
    log, other = tmp_path / "a.log", tmp_path / "b.log"
    for path in (log, other):
        path.touch()
    heard, stop = Notices(), threading.Event()
    heard.watch(str(log))
    with log.open("ab", buffering=0) as file:
        file.write(b"before\n")
        heard.wait(stop, FOREVER_SECONDS)
        later = threading.Timer(0.05, file.write, [b"during\n"])
        later.start()
        heard.wait(stop, FOREVER_SECONDS)
        later.join()
    heard.watch(str(other))  # as after a rotation
    with other.open("ab", buffering=0) as file:
        file.write(b"the other\n")
    heard.wait(stop, FOREVER_SECONDS)
    heard.close()
    heard.close()


@pytest.mark.parametrize("silent", ["no library", "no such file", "closed"])
def test_without_notices_the_pause_passes_and_a_stop_ends_it(
    silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if silent == "no library":
        monkeypatch.setattr(notices, "_library", lambda: None)
    deaf, stop = Notices(), threading.Event()
    deaf.watch(str(tmp_path / "missing.log"))
    if silent == "closed":
        deaf.close()
    began = time.monotonic()
    deaf.wait(stop, 0.01)
    assert time.monotonic() - began >= 0.01
    stop.set()
    deaf.wait(stop, FOREVER_SECONDS)
    deaf.close()
