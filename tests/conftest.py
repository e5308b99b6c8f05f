"""Tests see the shipped rules and nothing of the person who runs them, and leave nothing in their home.

Set before any test module is imported, because some read the rules while they are imported.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_EMPTY = tempfile.TemporaryDirectory(prefix="gpuwatch-config-")
os.environ["GPUWATCH_CONFIG_DIR"] = _EMPTY.name
os.environ["GPUWATCH_STATE_DIR"] = str(Path(_EMPTY.name) / "state")
os.environ["GPUWATCH_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "gpuwatch")
