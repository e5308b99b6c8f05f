"""What the tests of several verbs begin with."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config folder of the test's own, empty."""
    folder = tmp_path / "config"
    folder.mkdir()
    monkeypatch.setenv("GPUWATCH_CONFIG_DIR", str(folder))
    monkeypatch.setenv("LANG", "C.UTF-8")
    return folder
