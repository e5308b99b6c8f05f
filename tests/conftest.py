"""Tests see the shipped rules and nothing of the person who runs them.

Set before any test module is imported, because some read the rules while they are imported.
"""

from __future__ import annotations

import os
import tempfile

_EMPTY = tempfile.TemporaryDirectory(prefix="gpuwatch-config-")
os.environ["GPUWATCH_CONFIG_DIR"] = _EMPTY.name
