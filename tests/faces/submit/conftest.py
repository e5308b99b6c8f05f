"""A stand-in server and some photos; nothing is waited for long."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwatch.adapters.comfyui import patience, submitting


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPUWATCH_STATE_DIR", str(tmp_path / "state"))
    for pause in ("_LONGEST_PAUSE", "_ARRIVES_SECONDS"):
        monkeypatch.setattr(submitting, pause, 0.05)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE", 0.05)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("a.jpg", "a.png", "b.jpg", "trip/c d.JPG", "trip/über.webp", ".hidden.jpg", "notes.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"photo {name}\r\n--\x00\xff".encode("latin-1"))
    return folder
