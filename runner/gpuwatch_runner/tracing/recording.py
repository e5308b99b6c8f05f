"""One pass, recorded: every storage's birth and death in order, with the operator and the part of the network it was in."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MOST_PARTS = 4
"""A place is named by so many parts of its module's path: `encoder.arch.stages.2` is near enough."""

NAMES = {"new_empty": "scaled_dot_product_attention"}
"""What a stand-in for an operator is called in a trace."""


@dataclass(slots=True)
class Recording:
    """What a pass did. A birth is a row of `births`, a death the birth's number; `events` holds them in order."""

    resident_bytes: list[int] = field(default_factory=list)
    """What was there before the pass: the network's own tensors, in the order in which they were allocated."""
    births: list[tuple[str, str, int]] = field(default_factory=list)
    """Operator, place, bytes."""
    events: list[int] = field(default_factory=list)
    """A birth is its number n, the death of the same storage is -n - 1."""

    def structure(self) -> tuple[object, ...]:
        """Everything but the bytes: the same at every size, or the trace is none."""
        return tuple(self.events), tuple((operator, place) for operator, place, _ in self.births)

    def peak_bytes(self) -> int:
        """The most bytes alive at a time, the network's own included."""
        live = peak = sum(self.resident_bytes)
        for event in self.events:
            live += self.births[event][2] if event >= 0 else -self.births[-event - 1][2]
            peak = max(peak, live)
        return peak


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Follows storages while it is entered; those `already` there are the resident ones."""

    def __init__(self, already: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.recording = Recording()
        self.place = ""
        self.linears = 0
        """How many calls of `linear` are under way."""
        self._followed: set[int] = set()
        for tensor in already:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._followed:
                self._followed.add(storage._cdata)
                self.recording.resident_bytes.append(storage.nbytes())

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        if self.linears and func is torch.ops.aten.add.Tensor:
            # Only because it is being watched does torch add the bias into a tensor of its own; else it adds in place.
            return torch.ops.aten.add_.Tensor(args[0], args[1])
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                name = str(func).removeprefix("aten.").partition(".")[0]
                self.follow(leaf, NAMES.get(name, name))
        return result

    def follow(self, tensor: Tensor, operator: str) -> None:
        """Record the birth of the tensor's storage, unless it is known; its death then records itself."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._followed or not storage.nbytes():
            return
        self._followed.add(key)
        number = len(self.recording.births)
        self.recording.births.append((operator, self.place, storage.nbytes()))
        self.recording.events.append(number)
        weakref.finalize(storage, self._gone, key, number).atexit = False

    def _gone(self, key: int, number: int) -> None:
        self._followed.discard(key)
        self.recording.events.append(-number - 1)


@contextmanager
def places(network: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Keep the recorder told which part of the network runs, by its path as the checkpoint names it."""
    stack = [""]
    handles = []

    def enter(path: str) -> Callable[..., None]:
        def entered(_module: nn.Module, _given: object) -> None:
            stack.append(path)
            recorder.place = path

        return entered

    def leave(_module: nn.Module, _given: object, _made: object) -> None:
        stack.pop()
        recorder.place = stack[-1]

    for name, module in network.named_modules():
        path = ".".join(name.split(".")[:MOST_PARTS])
        handles += [
            module.register_forward_pre_hook(enter(path)),
            module.register_forward_hook(leave, always_call=True),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def linears(recorder: Recorder) -> Iterator[None]:
    """Keep the recorder told while `linear` runs."""
    original = functional.linear

    def watched(*given: Any, **named: Any) -> Tensor:
        recorder.linears += 1
        try:
            return original(*given, **named)
        finally:
            recorder.linears -= 1

    with mock.patch.object(functional, "linear", watched):
        yield


def record(network: nn.Module, make_input: Callable[[], Tensor], already: Iterable[Tensor]) -> Recording:
    """Record one pass, from the making of its input to the end of its output."""
    recorder = Recorder(already)
    with recorder, places(network, recorder), linears(recorder):
        image = make_input()
        made = network(image)
        del made, image
        if torch.is_autocast_enabled("cuda"):
            before = len(recorder.recording.events)
            torch.clear_autocast_cache()
            # The cache lets its tensors go in the order of their addresses, which is another each time.
            recorder.recording.events[before:] = sorted(recorder.recording.events[before:], reverse=True)
    return recorder.recording
