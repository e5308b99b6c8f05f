"""Which prompt fails, and as what: the memory model says what each node holds on the card; the words are recorded ones."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.workload import WorkloadProfile, predict

NODE = "DDColor_Colorize"
PAINTER = "GWPainter"
"""A node that nobody traced: with its model it takes PAINTER_FIXED_BYTES, and so much for each pixel of its picture."""
PAINTER_FIXED_BYTES, PAINTER_PIXEL_BYTES = 1 << 30, 3000
GIB = 1 << 30

Needs = Callable[[int, str], float]
"""What DDColor holds at a size with a checkpoint."""


@dataclass
class Card:
    """The GPU: what it has, and what other models hold of it."""

    total_bytes: int = 6216965160
    held_bytes: int = 0
    """Given back when the server is asked to free memory."""
    working_bytes: int = 0
    """Of the job that runs; given back at its end."""

    @property
    def free_bytes(self) -> int:
        return self.total_bytes - self.held_bytes - self.working_bytes


@functools.cache
def ddcolor() -> WorkloadProfile:
    profile = load_workloads().named("ddcolor")
    assert profile is not None
    return profile


def predicted_bytes(side_px: int, checkpoint: str) -> float:
    """What the memory model says that DDColor holds on the card."""
    variant = ddcolor().variant_of(checkpoint) or "tiny"
    return predict(ddcolor(), variant, side_px).process_bytes.mid


def heaviest(prompt: Mapping[str, Any], needs_bytes: Needs) -> tuple[str, float] | None:
    """The node of a prompt that takes most of the card, and what it takes."""
    needs: dict[str, float] = {}
    for id_, node in prompt.items():
        inputs = node.get("inputs", {})
        if node["class_type"] == NODE:
            needs[id_] = needs_bytes(inputs["model_input_size"], inputs.get("checkpoint", "ddcolor_paper_tiny.pth"))
        elif node["class_type"] == PAINTER:
            needs[id_] = PAINTER_FIXED_BYTES + PAINTER_PIXEL_BYTES * inputs["width"] * inputs["height"]
    return max(needs.items(), key=lambda each: each[1], default=None)


def error_of(
    prompt: Mapping[str, Any],
    recorded: Mapping[str, Any],
    card: Card,
    *,
    faults: Mapping[str, str],
    needs_bytes: Needs,
) -> dict[str, Any] | None:
    """The execution_error of a prompt that fails, without its id and time; None for one that runs well."""
    for id_, node in prompt.items():
        inputs, kind = node.get("inputs", {}), node["class_type"]
        error = copy.deepcopy(recorded["execution_error"]) | {"node_id": id_, "node_type": kind}
        if kind == "GWFault" and inputs.get("kind"):
            error["current_inputs"] = {"kind": [inputs["kind"]]}
            error["exception_type"] = recorded.get("accelerator_error", "torch.AcceleratorError")
            error["exception_message"] = (
                recorded["illegal_message"] if inputs["kind"] == "illegal" else f"{inputs['kind']}\n"
            )
            return error
        if kind in faults:
            return error | {"exception_type": "ValueError", "exception_message": faults[kind]}
        if kind in {NODE, PAINTER}:
            most = heaviest(prompt, needs_bytes)
            if most is None or most[0] != id_ or most[1] <= card.free_bytes:
                continue
            if kind == PAINTER:
                error["current_inputs"], error["exception_message"] = {}, "Allocation on device \n"
                error["traceback"] = [words.replace("DDColor", PAINTER) for words in error["traceback"]]
            error["current_inputs"] |= {name: [value] for name, value in inputs.items()}
            gib = f"{card.total_bytes / GIB:.2f} GiB"
            error["exception_message"] = error["exception_message"].replace("7.79 GiB", gib).replace("5.79 GiB", gib)
            return error
    return None
