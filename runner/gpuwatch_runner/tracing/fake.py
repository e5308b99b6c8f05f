"""Tensors that claim to be on a GPU and hold no data, also where torch was built without CUDA.

They choose the same operators, the same autocast policy and the same layouts as real ones, which the meta device does not.
A CPU build of torch has no device guard for CUDA and refuses where one is asked for; the guard of the meta device, which
does nothing, is put in its place. It is process-wide and never taken back: trace in a process of its own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional

_REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"
_CUDA, _META = 1, 14
"""Places of the two devices in torch's list of device types."""
_QUERY_TILE = 32
"""The fused attention kernels pad their log-sum-exp to whole tiles of queries."""
DEVICE = torch.device("cuda", 0)


def allow_cuda() -> None:
    """Let fake CUDA tensors through on a build without CUDA."""
    if torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]  # untyped in torch
        return
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * (_META + 1)).in_dll(library, _REGISTRY)
    if guards[_CUDA] is None:
        guards[_CUDA] = guards[_META]


def faked(tensor: Tensor, mode: FakeTensorMode) -> FakeTensor:
    """A fake CUDA tensor of a meta tensor's shape, with a storage of its own."""
    return FakeTensor(mode, tensor.detach(), DEVICE)


def put_on(network: nn.Module, mode: FakeTensorMode, dtype: torch.dtype, *, grad: bool) -> list[Tensor]:
    """Replace a meta network's tensors by fake CUDA ones, in the order in which `Module.to` would move them; gives them.

    Floating-point buffers ask for gradients as parameters do: the official network's normalised weights depend on some.
    """
    moved: list[Tensor] = []
    for child in network.children():
        moved += put_on(child, mode, dtype, grad=grad)
    tables: tuple[tuple[dict[str, Any], bool], ...] = ((network._parameters, True), (network._buffers, False))
    for entries, wrapped in tables:
        for name, tensor in entries.items():
            if tensor is None:
                continue
            floating = tensor.is_floating_point()
            fake: Tensor = faked(tensor.to(dtype) if floating else tensor.clone(), mode)
            if wrapped:
                # Frozen or not makes a difference besides gradients: autocast caches casts of what asks for them.
                fake = nn.Parameter(fake, requires_grad=True)
            elif grad and floating and name == "weight":
                fake.requires_grad_()
            entries[name] = fake
            moved.append(fake)
    return moved


@contextmanager
def fused_attention() -> Iterator[None]:
    """Let attention allocate what CUDA's fused kernels do: its output and a log-sum-exp, never the weights.

    Which kernel runs is asked of the device, and here is none. Holds for head sizes up to 128 on compute capability 5.0
    and later, in every precision; the official network asks for the weights and never comes here.
    """

    def attend(query: Tensor, key: Tensor, value: Tensor, *_given: object, **_more: object) -> Tensor:
        del key
        tiles = -(-query.shape[2] // _QUERY_TILE)
        _sums = torch.empty(query.shape[0], query.shape[1], tiles * _QUERY_TILE, device=query.device)
        seen = value.new_empty(query.shape[0], query.shape[2], query.shape[1], value.shape[3])
        return seen.transpose(1, 2)

    with mock.patch.object(functional, "scaled_dot_product_attention", attend):
        yield


@contextmanager
def autocast(dtype: torch.dtype | None) -> Iterator[None]:
    """CUDA's autocast, which `torch.autocast` turns off where there is no CUDA; nothing for None."""
    if dtype is None:
        yield
        return
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
