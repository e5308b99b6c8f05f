"""A memory trace: what one pass of a network allocates and frees, in order, as polynomials in the size of its input.

Made by the runner, once, with torch; read here without. Bytes are what tensors ask for: rounding, segments and workspaces are
the allocator's and the calibration's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FORMAT = 1
MOST_EVENTS = 200_000
MOST_BYTES = 1 << 44
FLAT = ("1", "h", "w", "hw")
BATCHED = (*FLAT, "b", "bh", "bw", "bhw")


class TraceError(ValueError):
    """A trace file that is none."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A trace at one size."""

    birth_bytes: tuple[int, ...]
    """What each allocation asks for, by its number."""
    peak_bytes: int
    """The most that is alive at a time, the network's own tensors included."""
    peak_birth: int
    """The number of the allocation that made it so."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """What one pass does to memory at any size. Two are the same only if they are one object, so that one can be a key."""

    name: Mapping[str, str]
    """workload, variant, dtype, rewrite, grad, batch; torch and generator that made it."""
    stride_px: int
    """Heights and widths are multiples of this."""
    variables: tuple[str, ...]
    """What the coefficients stand before: 1, h, w, hw, and the same times b; h and w are in strides."""
    polynomials: tuple[tuple[int, ...], ...]
    kinds: tuple[tuple[str, str, int], ...]
    """Operator, place in the network, index of the polynomial."""
    births: tuple[int, ...]
    """The kind of each allocation, in order."""
    events: tuple[int, ...]
    """A birth is its number n, the death of the same storage -n - 1."""
    resident_bytes: tuple[int, ...]
    """The network's own tensors, in the order in which they are put on the device."""
    flop: tuple[int, ...]

    def values(self, height_px: int, width_px: int, batch: int) -> tuple[int, ...]:
        """What the coefficients are multiplied with."""
        h, w = height_px // self.stride_px, width_px // self.stride_px
        flat = (1, h, w, h * w)
        return flat if len(self.variables) == len(flat) else (*flat, *(batch * value for value in flat))

    def at(self, height_px: int, width_px: int, batch: int = 1) -> Pass:
        """The trace at a size."""
        values = self.values(height_px, width_px, batch)
        sizes = [sum(c * v for c, v in zip(row, values, strict=True)) for row in self.polynomials]
        birth_bytes = tuple(sizes[self.kinds[kind][2]] for kind in self.births)
        live = peak = sum(self.resident_bytes)
        peak_birth = 0
        for event in self.events:
            if event >= 0:
                live += birth_bytes[event]
                if live > peak:
                    peak, peak_birth = live, event
            else:
                live -= birth_bytes[-event - 1]
        return Pass(birth_bytes, peak, peak_birth)

    def flop_at(self, height_px: int, width_px: int, batch: int = 1) -> int:
        """Floating-point operations of a pass."""
        return sum(c * v for c, v in zip(self.flop, self.values(height_px, width_px, batch), strict=True))

    @property
    def weights_bytes(self) -> int:
        """What the network's own tensors ask for."""
        return sum(self.resident_bytes)

    def step(self, birth: int) -> str:
        """An allocation in words: where, and which operator."""
        operator, place, _ = self.kinds[self.births[birth]]
        return f"{place}: {operator}" if place else operator

    def as_json(self) -> dict[str, Any]:
        """The trace as it is shipped: words once, an event as 0 for a birth, n for the death of the n-th last one born."""
        operators = list(dict.fromkeys(operator for operator, _, _ in self.kinds))
        places = list(dict.fromkeys(place for _, place, _ in self.kinds))
        events, born = [], 0
        for event in self.events:
            if event >= 0:
                born += 1
                events.append(0)
            else:
                events.append(born + event + 1)
        return {
            "format": FORMAT,
            **self.name,
            "stride_px": self.stride_px,
            "variables": list(self.variables),
            "polynomials": [list(row) for row in self.polynomials],
            "operators": operators,
            "places": places,
            "kinds": [[operators.index(o), places.index(p), polynomial] for o, p, polynomial in self.kinds],
            "births": list(self.births),
            "events": events,
            "resident_bytes": list(self.resident_bytes),
            "flop": list(self.flop),
        }


_NAMES = ("workload", "variant", "dtype", "rewrite", "grad", "batch", "torch", "generator")


def trace_of(value: Any) -> Trace:
    """Read a trace back. Raises TraceError where the value is none that `at` could answer from."""
    try:
        if value["format"] != FORMAT:
            raise TraceError(f"format {value['format']!r} is not {FORMAT}")
        variables = tuple(value["variables"])
        if variables not in (FLAT, BATCHED):
            raise TraceError("other variables than h, w and b")
        polynomials = tuple(_whole(row, len(variables)) for row in value["polynomials"])
        words = [tuple(str(word) for word in value[name]) for name in ("operators", "places")]
        kinds = tuple((words[0][_index(o)], words[1][_index(p)], _index(n)) for o, p, n in value["kinds"])
        births = _whole(value["births"])
        trace = Trace(
            name={name: str(value[name]) for name in _NAMES},
            stride_px=_whole([value["stride_px"]])[0],
            variables=variables,
            polynomials=polynomials,
            kinds=kinds,
            births=births,
            events=_events(_whole(value["events"]), len(births)),
            resident_bytes=_whole(value["resident_bytes"]),
            flop=tuple(int(count) for count in value["flop"]),
        )
        if len(trace.flop) != len(variables) or trace.stride_px < 1 or min(trace.resident_bytes, default=0) < 0:
            raise TraceError("numbers that no network has")
        if any(polynomial >= len(polynomials) for _, _, polynomial in kinds):
            raise TraceError("a kind without its polynomial")
        if any(not 0 <= kind < len(kinds) for kind in births):
            raise TraceError("an allocation without its kind")
        if min(trace.at(trace.stride_px, trace.stride_px, 2).birth_bytes, default=0) < 0:
            raise TraceError("an allocation of less than nothing")
    except TraceError:
        raise
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise TraceError(f"{type(error).__name__}: {error}") from error
    return trace


def _index(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise TraceError("an index below nothing")
    return value


def _whole(values: Any, length: int | None = None) -> tuple[int, ...]:
    """Whole numbers within bounds."""
    whole = tuple(values)
    if len(whole) > MOST_EVENTS or (length is not None and len(whole) != length):
        raise TraceError(f"{len(whole)} numbers")
    if not all(isinstance(value, int) and abs(value) <= MOST_BYTES for value in whole):
        raise TraceError("a number that is not whole, or too large")
    return whole


def _events(packed: Sequence[int], births: int) -> tuple[int, ...]:
    """Births by number, deaths by -number - 1; each storage dies at most once, after its birth."""
    events: list[int] = []
    alive: set[int] = set()
    born = 0
    for event in packed:
        if event == 0:
            alive.add(born)
            events.append(born)
            born += 1
        else:
            number = born - event
            if number not in alive:
                raise TraceError("the death of what does not live")
            alive.remove(number)
            events.append(-number - 1)
    if born != births:
        raise TraceError(f"{born} births, not {births}")
    return tuple(events)
