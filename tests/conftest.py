"""Tests see the shipped rules and nothing of the person who runs them, and leave nothing in their home.

Set before any test module is imported, because some read the rules while they are imported.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

_EMPTY = tempfile.TemporaryDirectory(prefix="gpuwatch-config-")
os.environ["GPUWATCH_CONFIG_DIR"] = _EMPTY.name
os.environ["GPUWATCH_STATE_DIR"] = str(Path(_EMPTY.name) / "state")
os.environ["GPUWATCH_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "gpuwatch")


@pytest.fixture(autouse=True)
def nothing_is_remembered() -> Iterator[None]:
    """No test finds the language or the layout that another one left the screen in."""
    yield
    for path in Path(_EMPTY.name).iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
