"""What the tests of several verbs begin with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gpuwatch.texts import use
from tests.faces import tui_play
from tests.faces.tui_served import PATIENCE_SECONDS
from tests.standin.server import Standin, standing


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config folder of the test's own, empty."""
    folder = tmp_path / "config"
    folder.mkdir()
    monkeypatch.setenv("GPUWATCH_CONFIG_DIR", str(folder))
    monkeypatch.setenv("LANG", "C.UTF-8")
    return folder


@pytest.fixture
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A state folder of the test's own, English, and patience with a server."""
    monkeypatch.setenv("GPUWATCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(tui_play, "DEADLINE_SECONDS", float(PATIENCE_SECONDS))
    use("en")
    yield
    use("en")


@pytest.fixture
def standin() -> Iterator[Standin]:
    """A server as ComfyUI's, without a GPU."""
    with standing() as standin:
        yield standin
