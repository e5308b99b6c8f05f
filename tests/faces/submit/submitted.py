"""`gpuwatch submit` at work: what it is given, what should come of it, and how a test waits for it."""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.comfyui.bulk_folder import NAME
from gpuwatch.errors import UnreachableError
from gpuwatch.faces.cli import main
from gpuwatch.faces.commands import submit
from tests.standin.comfyui import ComfyUI
from tests.standin.prompts import LARGE
from tests.standin.server import Standin

PATIENCE_SECONDS = 60


def template(side_px: int = 256) -> dict[str, Any]:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "3": {
            "class_type": "DDColor_Colorize",
            "inputs": {"image": ["1", 0], "model_input_size": side_px, "checkpoint": LARGE},
        },
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
    }


WANTED = {
    "a.jpg.png": "a.jpg",
    "a.png.png": "a.png",
    "b.png": "b.jpg",
    "trip/c d.png": "trip/c d.JPG",
    "trip/über.png": "trip/über.webp",
}


def written(path: Path, value: Any) -> str:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def results(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode("latin-1").split("photo ")[1].partition("\r")[0]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME
    }


def submitted(
    capsys: pytest.CaptureFixture[str], *words: str | Path
) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    code = main(["submit", *map(str, words), "--json"])
    *lines, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return code, lines, last


class running:  # noqa: N801 - reads as a sentence
    """`submit` on a thread."""

    def __init__(self, standin: Standin, photos: Path, folder: Path, **more: Any) -> None:
        self.arguments = argparse.Namespace(
            photos=[str(photos)], server=[standin.url], workflow=written(folder / "w.json", template(more.pop("side_px", 256))),
            out=folder / "out", input=None, depth=4, retry_degrade=False, resume=False, tries=3, min_size=None,
            header_file=None, token_file=None, gpu_memory=None, json=True, rules=None, give_up_after=600.0,
            journal=None, no_journal=False,
        )  # fmt: skip
        vars(self.arguments).update(more)
        self.stop = threading.Event()
        self.codes: list[int] = []

    def __enter__(self) -> tuple[list[int], threading.Event]:
        def run() -> None:
            with suppress(UnreachableError):
                self.codes.append(submit.submit(self.arguments, self.stop))

        self.thread = threading.Thread(target=run)
        self.thread.start()
        return self.codes, self.stop

    def __exit__(self, *_: object) -> None:
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive()


def waits_for(comfyui: ComfyUI, happened: Callable[[], bool]) -> None:
    with comfyui.changed:
        assert comfyui.changed.wait_for(happened, PATIENCE_SECONDS)
