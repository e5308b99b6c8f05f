"""Networks under ComfyUI's memory management: counted, moved to the card when needed, moved off when others need the room.

ComfyUI's `ModelPatcher` does that for its own models. Where a version has none that takes our network, it is moved to the
card for the pass and off again after it. Few networks are held; the oldest goes before another is built.
"""

from __future__ import annotations

import importlib
import inspect
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpuwatch_runner import weights
from gpuwatch_runner.ddcolor import DDColor, Rewrite

HELD_AT_MOST = 2
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def management() -> Any:
    """ComfyUI's model management."""
    return importlib.import_module("comfy.model_management")


@dataclass(slots=True)
class Held:
    """A network, and ComfyUI's grip on it."""

    network: DDColor
    device: torch.device
    offload_device: torch.device
    weights_bytes: int
    patcher: Any
    """None where this ComfyUI has no `ModelPatcher` that takes it."""

    @contextmanager
    def on_device(self, need_bytes: float) -> Iterator[DDColor]:
        """The network on its device for the block, with `need_bytes` more made free if ComfyUI can."""
        mm = management()
        if self.patcher is not None:
            _call(mm.load_models_gpu, [self.patcher], memory_required=need_bytes, force_full_load=True)
        else:
            mm.free_memory(self.weights_bytes + need_bytes, self.device)
        # With --novram ComfyUI leaves the weights of other networks than its own where they are.
        stray = any(_elsewhere(parameter.device, self.device) for parameter in self.network.parameters())
        if stray:
            self.network.to(self.device)
        try:
            yield self.network
        finally:
            if stray or self.patcher is None:
                self.network.to(self.offload_device)

    def release(self) -> None:
        """Off the card, and out of ComfyUI's hands."""
        with suppress(AttributeError, RuntimeError):
            if self.patcher is not None:
                self.patcher.detach()
            else:
                self.network.to(self.offload_device)


class Models:
    """The networks that are held in this process."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[Any, ...], Held] = OrderedDict()

    def get(self, path: Path, rewrite: Rewrite, dtype: str) -> Held:
        """The network of a checkpoint; read only if it is not held, or the file has changed."""
        status = path.stat()
        key = (str(path), status.st_mtime_ns, status.st_size, rewrite, dtype)
        held = self._held.get(key)
        if held is None:
            while len(self._held) >= HELD_AT_MOST:
                _, oldest = self._held.popitem(last=False)
                oldest.release()
                del oldest
                management().soft_empty_cache()
            held = self._held[key] = _load(path, rewrite, dtype)
        self._held.move_to_end(key)
        return held


@torch.inference_mode(False)  # ComfyUI runs nodes in inference mode; what is made there can be moved nowhere else
@torch.no_grad()
def _load(path: Path, rewrite: Rewrite, dtype: str) -> Held:
    state, variant = weights.read_checkpoint(path)
    network = weights.build(state, variant, rewrite).requires_grad_(requires_grad=False).to(DTYPES[dtype])
    del state
    size_bytes = sum(each.numel() * each.element_size() for each in (*network.parameters(), *network.buffers()))
    mm = management()
    device, offload = mm.get_torch_device(), mm.unet_offload_device()
    return Held(network, device, offload, size_bytes, _patcher(network, device, offload, size_bytes))


def _patcher(network: DDColor, device: torch.device, offload: torch.device, size_bytes: int) -> Any:
    try:
        make = importlib.import_module("comfy.model_patcher").ModelPatcher
        # Its own count leaves out the quotients that spectral norm keeps beside the weights.
        return _call(make, network, load_device=device, offload_device=offload, size=size_bytes)
    except (ImportError, AttributeError, TypeError):
        return None


def _elsewhere(there: torch.device, wanted: torch.device) -> bool:
    """Whether it is another device; "mps" and "mps:0" are one."""
    return there.type != wanted.type or (wanted.index or 0) != (there.index or 0)


def _call(function: Any, *arguments: Any, **options: Any) -> Any:
    """Call with those of the options that this version takes."""
    known = inspect.signature(function).parameters
    taken = {name: value for name, value in options.items() if name in known}
    return function(*arguments, **taken)
