"""Checkpoints for tests: the published layout with nothing in it, and one with code in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

LAYOUTS = Path(__file__).parents[1] / "data" / "ddcolor"


def state_of(variant: str) -> dict[str, torch.Tensor]:
    """Every entry of the variant's checkpoint; each is one number stretched, so the file is small."""
    shapes = json.loads((LAYOUTS / f"layout_{variant}.json").read_text("utf-8"))
    return {
        name: torch.zeros((), dtype=torch.long if name.endswith("tracked") else torch.float32).expand(shape)
        for name, shape in shapes.items()
    }


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)
