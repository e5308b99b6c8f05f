"""Rules as validated values: what a failure looks like, what it is called, what its numbers are, what helps.

`adapters/rulebook.py` makes them from YAML and reports errors with file and line; nothing here touches a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import isfinite
from typing import Any, Literal, get_args

from gpuwatch.texts import Text

Severity = Literal["info", "warning", "error", "critical"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)

Label = Literal[
    "cuda_oom", "cuda_oom_fragmentation", "hip_oom", "mps_oom", "xpu_oom", "directml_oom", "tf_oom", "onnxruntime_oom",
    "tensorrt_oom", "vulkan_oom", "triton_out_of_resources", "oom_recovered", "cublas_alloc_failed", "cublas_error",
    "cudnn_error", "illegal_memory_access", "gpu_memory_fault_hip", "misaligned_address", "illegal_instruction",
    "device_side_assert", "launch_failure", "launch_timeout", "invalid_configuration", "cuda_invalid_argument",
    "cuda_operation_not_supported", "cuda_unknown_error", "cuda_device_busy", "no_kernel_image", "driver_too_old",
    "no_nvidia_driver", "no_cuda_device", "torch_no_cuda", "nvml_mismatch", "nccl_error", "xid", "gpu_lost",
    "gsp_timeout", "amdgpu_hang", "gpu_hang_intel", "xpu_device_lost", "host_oom", "host_oom_killed",
    "windows_pagefile", "pinned_memory_failure", "memory_spilled", "nan_output", "device_mismatch", "dtype_mismatch", "half_on_cpu",
    "fp8_unsupported", "model_corrupt", "model_mismatch", "model_missing", "missing_node", "import_failed",
    "download_failed", "disk_full", "filesystem_no_mmap", "port_in_use", "websocket_disconnect", "segfault",
    "worker_dead", "boot_failed", "prompt_rejected", "request_failed", "node_failed", "server_stopped",
    "poisoned_context", "gpu_fault_confirmed", "repeated_failures", "crash_loop",
]  # fmt: skip
"""The failure classes: a closed set, because it is also a metric's label. Extend by adding."""
LABELS: tuple[Label, ...] = get_args(Label)
MEMORY_LABELS: frozenset[Label] = frozenset({"cuda_oom", "cuda_oom_fragmentation", "hip_oom", "xpu_oom"})
"""Those whose message accounts for the card's memory."""

ACTIONS = (
    "shrink_size", "valid_size", "tiny_checkpoint", "free_memory", "unload_others", "switch_node", "expandable_segments",
    "reduce_batch", "tile_vae", "launch_flag", "restart_server", "reset_gpu", "reboot", "update_driver", "install",
    "free_disk", "free_host_memory", "isolate_node", "contact_support", "correct_input",
)  # fmt: skip
"""The planners' names: a closed set, because it is also a metric's label. Extend by adding."""
QUEUE_AGAIN = "queue_again"
"""Queueing a job once more just as it was, after its cause was mended elsewhere: no rule names it, it is done to a job."""

ClearAfter = Literal["success", "restart"]
Refinement = Literal["fragmentation"]
REFINEMENTS: tuple[Refinement, ...] = get_args(Refinement)
Sameness = Literal["source", "node"]


@dataclass(frozen=True, slots=True)
class Example:
    """A log that the rule must match, with the facts it must find there."""

    log: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuleFix:
    """A fix that a rule names: a planner, or a planner's name with words and a command of the rule's own."""

    action: str
    title: Text | None = None
    """None: the planner says it, with numbers where it has them."""
    safety: Literal["safe", "restarts", "changes_output"] | None = None
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Correlate:
    """Which failures mean something together. A name is a label or a rule's id.

    Either `all_of`, or `any_of` with a count, `after` one of those that make the others count.
    """

    within_seconds: float
    any_of: frozenset[str] = frozenset()
    count: int = 1
    after: frozenset[str] = frozenset()
    """Where it is not empty: only failures that come after one of these count, and that one is not among the count."""
    all_of: tuple[frozenset[str], ...] = ()
    """One failure for each of these sets, in any order."""
    same: Sameness | None = None
    """What the failures must have in common."""
    standing: bool = False
    """True where a failure that has cleared or that the program coped with no longer counts."""

    @property
    def names(self) -> frozenset[str]:
        """Every label and rule id that is looked at."""
        return frozenset().union(self.any_of, self.after, *self.all_of)


@dataclass(frozen=True, slots=True)
class Step:
    """A failure in an example of a rule that correlates: when, where, and the log's line, or only the failure's label."""

    at_seconds: float
    source: str
    log: str | None = None
    label: Label | None = None


@dataclass(frozen=True)
class Rule:
    """One failure family."""

    id: str
    label: Label
    title: Text
    severity: Severity
    why: Text
    match: tuple[bytes, ...]
    """Patterns in the syntax of the `regex` module, over the bytes of one record; any of them is enough. None in a rule that
    correlates."""
    unless: tuple[bytes, ...] = ()
    """Patterns that veto a match on the same record."""
    overrides: tuple[str, ...] = ()
    """Rules that give way to this one in the same failure."""
    fallback: bool = False
    """True for a rule that says only "something failed": it gives way to every other rule in the same failure."""
    same_when: tuple[str, ...] | None = None
    """Facts that tell one failure from the next: further lines on which they are equal belong to the failure that is open.
    An empty tuple: every further line does. None: a second line that says it again is a second failure."""
    echo: bool = False
    """True where the lines belong to a failure told before; they open one only where none is open."""
    recovered: bool = False
    """True where the program says that it coped."""
    facts: tuple[bytes, ...] = ()
    """Patterns whose named groups are the facts; a name's last word is its unit."""
    back: int = 0
    ahead: int = 0
    """How many records before and after the trigger the fact patterns look at."""
    refine: Mapping[Refinement, Label] = field(default_factory=dict)
    """A named test over the facts, and the label that the failure has where the test holds."""
    clear_after: ClearAfter | None = None
    clear_match: bytes | None = None
    fixes: tuple[RuleFix, ...] = ()
    references: tuple[str, ...] = ()
    matching_examples: tuple[Example, ...] = ()
    ignored_examples: tuple[str, ...] = ()
    correlate: Correlate | None = None
    """Where it is set, the rule speaks of failures that other rules found."""
    matching_sequences: tuple[tuple[Step, ...], ...] = ()
    ignored_sequences: tuple[tuple[Step, ...], ...] = ()
    where: str = ""
    """File and line of the rule's first line."""

    def beats(self, other: Rule) -> bool:
        """Whether `other` gives way to this rule when both speak of one failure."""
        return other.id in self.overrides or (other.fallback and not self.fallback)

    @property
    def bare(self) -> Rule:
        """Without its examples and its place: all that a log needs of it, and the same wherever it was read."""
        return replace(
            self, matching_examples=(), ignored_examples=(), matching_sequences=(), ignored_sequences=(), where=""
        )


@dataclass(frozen=True, eq=False)
class RuleSet:
    """Rules in the order they were read. Ids are unique; a later layer's rule takes the place of an earlier one's."""

    rules: tuple[Rule, ...]
    """Those that look at a log's records; these are what iterating gives."""
    correlations: tuple[Rule, ...] = ()
    """Those that look at what the others found."""

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    @property
    def every(self) -> tuple[Rule, ...]:
        """Both kinds."""
        return (*self.rules, *self.correlations)

    @cached_property
    def by_id(self) -> Mapping[str, Rule]:
        """Rules of both kinds by id."""
        return {rule.id: rule for rule in self.every}

    def layered(self, others: Iterable[Rule]) -> RuleSet:
        """These rules with `others` over them: the same id is replaced, a new one is added."""
        return rule_set({**self.by_id, **{rule.id: rule for rule in others}}.values())


def rule_set(rules: Iterable[Rule]) -> RuleSet:
    """Rules of both kinds, told apart."""
    rules = tuple(rules)
    return RuleSet(
        tuple(rule for rule in rules if rule.correlate is None),
        tuple(rule for rule in rules if rule.correlate is not None),
    )


_UNITS = {b"b": 1, b"byte": 1, b"bytes": 1, b"": 1}
for _power, _letter in enumerate(b"kmgtp", start=1):
    # PyTorch, Triton and MPS write KB, MB and GB and mean the binary units.
    _UNITS |= {bytes([_letter]) + tail: 1024**_power for tail in (b"", b"b", b"ib")}
_HEX = re.compile(rb"0x[0-9a-fA-F]{1,12}")
_SIZE = re.compile(rb"\s*(-?[\d][\d.,_]*(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*")
_DECIMAL_COMMA = re.compile(rb"\d+,\d{1,2}")
"""A number as C prints it where the comma is the decimal point: groups of thousands have three digits."""
_LARGEST_TRUE_BYTES = 1 << 63
"""What is above is no fact but a limit that was never set: "17179869184.00 GiB"."""
_MOST_DIGITS = 18
"""Longer numbers are no index, no process and no count: they do not fit 64 bits, and Python does not read the longest at all."""
_INTEGER_UNITS = frozenset({"index", "pid", "port", "steps", "count", "px", "xid", "line"})
_FLOAT_UNITS = frozenset({"seconds", "celsius", "watts", "ratio"})
_LISTS = frozenset({"xids", "tensor_shape"})
_WORDS = frozenset(
    {"pci", "node_id", "node_type", "name", "version", "path", "device", "code", "signal", "command", "input", "dtype"}
)
FACT_UNITS = tuple(sorted(_INTEGER_UNITS | _FLOAT_UNITS | {"bytes", "version", "path", "name", "code"}))


def known_fact_name(name: str) -> bool:
    """Whether a fact's name says what it is: a unit as its last word, or one of the names with a meaning of their own."""
    known = _INTEGER_UNITS | _FLOAT_UNITS | _LISTS | _WORDS | {"bytes"}
    return name in known or name.rpartition("_")[2] in known


def convert_fact(name: str, raw: bytes) -> Any:
    """Turn what a pattern captured into a fact; None where it is no such value.

    `_bytes`: number x unit, rounded half up, KiB and KB both 2^10. `_index`, `pid`, `port`, ...: an integer.
    `_seconds`, ...: a float. `xids`, `tensor_shape`: a list of integers. Anything else: a string.
    """
    unit = name.rpartition("_")[2]
    if unit == "bytes":
        return parse_bytes(raw)
    if name in _LISTS:
        return [int(digits) for digits in re.findall(rb"\d+", raw) if len(digits) <= _MOST_DIGITS] or None
    if unit in _INTEGER_UNITS or name in _INTEGER_UNITS:
        digits = re.search(rb"-?\d+", raw)
        return int(digits[0]) if digits and len(digits[0]) <= _MOST_DIGITS else None
    if unit in _FLOAT_UNITS:
        number = re.search(rb"-?\d+(?:\.\d+)?", raw)
        return value if number and isfinite(value := float(number[0])) else None
    words = raw.decode("utf-8", "replace").strip()
    return words or None


def parse_bytes(raw: bytes) -> int | None:
    """Read "1.56 GiB", "1,56 GiB", "7999376589" or "0x1c000"; None where it is no size or a limit that was never set."""
    if _HEX.fullmatch(raw):
        return int(raw, 16)
    found = _SIZE.fullmatch(raw)
    if found is None:
        return None
    factor = _UNITS.get(found[2].lower())
    digits = found[1].replace(b",", b"." if _DECIMAL_COMMA.fullmatch(found[1]) else b"")
    try:
        number = float(digits.replace(b"_", b"")) if b"." in digits else int(digits)
    except ValueError:
        return None
    if factor is None or number < 0 or number * factor >= _LARGEST_TRUE_BYTES:
        return None
    return int(number * factor + 0.5) if isinstance(number, float) else number * factor
