"""Bytes of tensors alive at a time, and bytes that operators move, followed from outside.

Works on any device, the meta device included, where nothing is computed. What an operator takes and gives back inside of
itself (a convolution's workspace) is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Follows every storage from its birth to its death; `peak_bytes` is the most that was alive at a time."""

    def __init__(self, already: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self._followed: set[int] = set()
        for tensor in already:
            self._follow(tensor)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._followed:
            return
        self._followed.add(key)
        size_bytes = storage.nbytes()
        self.live_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._forget, key, size_bytes).atexit = False

    def _forget(self, key: int, size_bytes: int) -> None:
        self._followed.discard(key)
        self.live_bytes -= size_bytes


class Traffic(TorchDispatchMode):
    """Counts what each operator must read and write once: its tensors in and out, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.moved_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        del types
        result = func(*args, **(kwargs or {}))
        given = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        known = {tensor.untyped_storage()._cdata for tensor in given}
        if func._schema.is_mutable or any(tensor.untyped_storage()._cdata not in known for tensor in made):
            self.moved_bytes += sum(_bytes_of(tensor) for tensor in (*given, *made))
        return result


def _bytes_of(tensor: Tensor) -> int:
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def tensors_of(network: nn.Module) -> list[Tensor]:
    """Everything that the network holds: parameters and buffers."""
    return [*network.parameters(), *network.buffers()]


@torch.inference_mode()
def peak_of_pass(network: nn.Module, image: Tensor) -> int:
    """The most bytes alive during one pass, weights and image included."""
    with LiveBytes([*tensors_of(network), image]) as live:
        network(image)
    return live.peak_bytes
