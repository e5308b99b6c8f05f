"""Workflows to submit, in API form."""

from __future__ import annotations

from typing import Any

TINY, LARGE = "ddcolor_paper_tiny.pth", "ddcolor_modelscope.pth"


def workflow(side_px: int = 1280, checkpoint: str = LARGE) -> dict[str, Any]:
    """One photo colorized at a size."""
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 320, "height": 240, "batch_size": 1, "color": 8421504}},
        "3": {
            "class_type": "DDColor_Colorize",
            "inputs": {"image": ["1", 0], "model_input_size": side_px, "checkpoint": checkpoint},
            "_meta": {"title": "Colorize"},
        },
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "colorized"}},
    }


def painting(width: int, height: int, model: str = "brush.safetensors") -> dict[str, Any]:
    """A picture by a node that nobody traced."""
    return {
        "5": {"class_type": "GWPainter", "inputs": {"width": width, "height": height, "model": model, "seed": width}},
        "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "painted"}},
    }


def faulty(kind: str) -> dict[str, Any]:
    """One that fails with these words, or with an illegal access for `illegal`."""
    return {
        "2": {"class_type": "GWFault", "inputs": {"kind": kind}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "broken"}},
    }
