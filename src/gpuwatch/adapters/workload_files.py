"""Workload files -> profiles: what each job needs of the card, as `rules/workloads/` has it.

Profiles and calibrations are YAML, reported like rules where they are wrong; traces are read when one is asked for. Apart
from the rules because nothing of it is matched against a log.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

from gpuwatch.adapters.located import (
    Located,
    Problem,
    bilingual,
    check_keys,
    flag,
    one_of,
    raise_problems,
    read_documents,
    shown_path,
)
from gpuwatch.core.memory.band import Band
from gpuwatch.core.memory.calibration import Calibration
from gpuwatch.core.memory.trace import Trace, TraceError, trace_of
from gpuwatch.core.workload import Claim, FormInput, Variant, WorkloadProfile
from gpuwatch.core.workloads import Profiles
from gpuwatch.errors import UsageError
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import plain, text

MOST_TRACE_BYTES = 1 << 20
"""Of a trace file, packed; the largest shipped one has a hundredth."""
MOST_UNPACKED_BYTES = 32 << 20
_NAME = re.compile(r"[a-z0-9_]{1,40}")
_SIZES = ("min_px", "max_px", "step_px", "default_px")
_FORMS = ("dtype_input", "rewrite_input")


def read_workloads() -> Profiles:
    """The shipped workload profiles. Raises UsageError that names every mistake."""
    folder = shipped_folder("rules") / "workloads"
    problems: list[Problem] = []
    calibrations: list[Calibration] = []
    profiles: list[WorkloadProfile] = []
    claimed: list[Claim] = []
    for path in sorted((folder / "data" / "calibration").glob("*.yaml")):
        try:
            for document in read_documents(path, shown_path(path)):
                calibrations += calibrations_from(document)
        except Problem as problem:
            problems.append(problem)
    for path in sorted(folder.glob("*.yaml")):
        try:
            for document in read_documents(path, shown_path(path)):
                found = workload_from(document, folder, tuple(calibrations))
                if isinstance(found, Claim):
                    claimed.append(found)
                else:
                    profiles.append(found)
        except Problem as problem:
            problems.append(problem)
    raise_problems(problems)
    return tuple(profiles), tuple(claimed)


def workload_from(document: Located, folder: Path, calibrations: tuple[Calibration, ...]) -> WorkloadProfile | Claim:
    """Make a workload profile of a document. Raises `Problem` at the first mistake."""
    entry = document.mapping()
    kind = one_of(entry["kind"], ("traced", "claimed")) if "kind" in entry else "traced"
    if kind == "claimed":
        return _claim(document, entry)
    check_keys(
        document,
        entry,
        required=(
            "kind", "id", "title", "size_input", "checkpoint_input", *_SIZES, "node_types", "packs", "traces", "variants", "source",
        ),
        optional=("same_dtype", "indexed_per_px", "indexed_rewrites", "places", *_FORMS),
    )  # fmt: skip
    profile = WorkloadProfile(
        **_named(entry) | {name: entry[name].whole(1, 1 << 20) for name in _SIZES},
        size_input=entry["size_input"].string(),
        checkpoint_input=entry["checkpoint_input"].string(),
        source=bilingual(entry["source"]),
        variants={name: variant(name, item) for name, item in entry["variants"].mapping().items()},
        traces=TraceFolder(folder / entry["traces"].string()),
        calibrations=calibrations,
        same_dtype=_words(entry, "same_dtype"),
        indexed_per_px=entry["indexed_per_px"].whole(0, 1 << 20) if "indexed_per_px" in entry else 0,
        indexed_rewrites=strings(entry["indexed_rewrites"]) if "indexed_rewrites" in entry else (),
        places={name: strings(item) for name, item in entry["places"].mapping().items()} if "places" in entry else {},
        dtype_input=_form_input(entry, "dtype_input"),
        rewrite_input=_form_input(entry, "rewrite_input"),
    )
    return profile.with_inputs({})


def _form_input(entry: dict[str, Located], name: str) -> FormInput | None:
    """An input that says in which form the network runs; None where the node has none."""
    if name not in entry:
        return None
    parts = entry[name].mapping()
    check_keys(entry[name], parts, required=("name", "default", "values"))
    values = {key: strings(item) for key, item in parts["values"].mapping().items()}
    default = parts["default"].string()
    if not values.get(default) or not all(values.values()):
        raise parts["values"].problem(text("each value of the input needs a form, its default too."))
    return FormInput(parts["name"].string(), default, values)


def _claim(document: Located, entry: dict[str, Located]) -> Claim:
    required = ("kind", "id", "title", "node_types", "packs", "inputs", "claims", "references")
    check_keys(document, entry, required=required)
    return Claim(
        **_named(entry),
        inputs={name: bilingual(item) for name, item in entry["inputs"].mapping().items()},
        claims=tuple(bilingual(item) for item in entry["claims"].items()),
        references=strings(entry["references"]),
    )


def _named(entry: dict[str, Located]) -> dict[str, Any]:
    """What every kind of profile has."""
    return {
        "id": entry["id"].string(),
        "title": entry["title"].string(),
        "node_types": strings(entry["node_types"]),
        "packs": strings(entry["packs"]),
    }


def _words(entry: dict[str, Located], name: str) -> dict[str, str]:
    """A mapping of strings; empty where the key is absent."""
    return {key: item.string() for key, item in entry[name].mapping().items()} if name in entry else {}


def calibrations_from(document: Located) -> list[Calibration]:
    """The calibrations of a document, one for each architecture that an entry names."""
    entry = document.mapping()
    check_keys(document, entry, required=("source", "measured", "calibrations"), optional=("run",))
    bands = ("workspace_bytes", "context_bytes", "reserved_ratio", "budget_ratio")
    made = []
    for item in entry["calibrations"].items():
        parts = item.mapping()
        check_keys(item, parts, required=("arch", "allocator", "torch", *bands))
        made += [
            Calibration(
                arch=arch,
                allocator=parts["allocator"].string(),
                torch=parts["torch"].string(),
                measured=flag(entry, "measured"),
                source=bilingual(entry["source"]),
                **{name: band(parts[name]) for name in bands},
            )
            for arch in strings(parts["arch"])
        ]
    return made


def strings(item: Located) -> tuple[str, ...]:
    """A list of strings."""
    return tuple(each.string() for each in item.items())


def band(item: Located) -> Band:
    """A quantity as {low, mid, high}."""
    entry = item.mapping()
    check_keys(item, entry, required=("low", "mid", "high"))
    low, mid, high = (float(entry[name].number()) for name in ("low", "mid", "high"))
    if not 0 <= low <= mid <= high < float("inf"):
        raise item.problem(text("low, mid and high must ascend."))
    return Band(low, mid, high)


def variant(name: str, item: Located) -> Variant:
    """One network of a workload."""
    entry = item.mapping()
    check_keys(item, entry, required=("checkpoints",))
    return Variant(name, strings(entry["checkpoints"]))


class TraceFolder:
    """The traces in a folder, each read once, when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, Trace | None] = {}

    def find(self, variant: str, dtype: str, rewrite: str, *, grad: bool, many: bool) -> Trace | None:
        """The trace of that name; None where the folder has none."""
        parts = [variant, dtype, rewrite, *(["grad"] if grad else []), "many" if many else "one"]
        if not all(_NAME.fullmatch(part) for part in parts):
            return None
        name = "-".join(parts) + ".json.gz"
        if name not in self._read:
            path = self._folder / name
            self._read[name] = read_trace(path) if path.is_file() else None
        return self._read[name]


def read_trace(path: Path) -> Trace:
    """Read a trace file. Raises UsageError where it is none, damaged, or larger than a trace can be."""
    try:
        with path.open("rb") as file:
            packed = file.read(MOST_TRACE_BYTES + 1)
        if len(packed) > MOST_TRACE_BYTES:
            raise TraceError(f"more than {MOST_TRACE_BYTES} bytes")
        unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
        content = unpacker.decompress(packed, MOST_UNPACKED_BYTES)
        if unpacker.unconsumed_tail or not unpacker.eof:
            raise TraceError("cut short, or too large unpacked")
        return trace_of(json.loads(content))
    except (OSError, gzip.BadGzipFile, zlib.error, TraceError, ValueError, RecursionError) as error:
        raise UsageError(
            text("{path} is no memory trace: {reason}", path=shown_path(path), reason=plain(str(error))),
            text("`make traces` writes the shipped ones anew."),
        ) from error
