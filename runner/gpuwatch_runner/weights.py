"""Weights for DDColor: a published checkpoint, read without running any code in it, or seeded random ones.

Converting checkpoints and downloading them are left out: a file is either in the official layout or refused with the
names that differ.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import shlex
import stat
import warnings
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from gpuwatch.core.checkpoint import VARIANT_ENTRY
from gpuwatch.errors import UsageError
from gpuwatch.texts import Text, plain, text
from gpuwatch_runner.ddcolor import VARIANTS, DDColor, Rewrite, Variant

State = dict[str, Tensor]

SUFFIXES = (".pth", ".pt", ".safetensors")
COLOUR_GAIN = 300.0
"""Random weights give ab well below 1; this brings it to between 10 and 80, colours that can be seen."""

_SPECTRAL_STEPS = 8
_NAMED_AT_MOST = 3


def build(state: State, variant: Variant, rewrite: Rewrite) -> DDColor:
    """Make the network around `state` without initialising or copying it; the tensors become the network's own."""
    with torch.device("meta"):
        network = DDColor(variant, rewrite)
    network.load_state_dict(state, strict=True, assign=True)
    return network


def layout(variant: Variant) -> dict[str, torch.Size]:
    """Names and shapes of every entry of the variant's checkpoint."""
    with torch.device("meta"):
        return {name: entry.shape for name, entry in DDColor(variant).state_dict().items()}


def read_checkpoint(path: Path, asked: Variant | None = None) -> tuple[State, Variant]:
    """Read a `.pth`, `.pt` or `.safetensors` file: its entries as float32, and which network they are for.

    Raises UsageError for a file that is missing, empty, cut short, carries code, is of another network, or is of another
    variant than `asked`.
    """
    entries = _entries_of(path)
    variant = _variant_of(path, entries)
    if asked is not None and asked != variant:
        raise UsageError(
            text("{path} holds the {variant} network, not {asked}", path=path, variant=variant, asked=asked),
            text("Leave --variant out: the checkpoint says which network it is"),
        )
    _require_layout(path, entries, variant)
    return {name: entry.float() if entry.is_floating_point() else entry for name, entry in entries.items()}, variant


def _entries_of(path: Path) -> dict[str, Tensor]:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            text("The checkpoint {path} does not exist", path=path),
            text("`gpuwatch checkpoint list` lists the published ones, by whose names --checkpoint takes them too"),
        ) from error
    except OSError as error:
        reason = plain(error.strerror or str(error))
        raise UsageError(text("The checkpoint {path} cannot be read: {reason}", path=path, reason=reason)) from error
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(text("The checkpoint {path} is a directory; name the file in it", path=path))
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(text("The checkpoint {path} is a pipe or a device; name a file", path=path))
    if path.suffix.lower() not in SUFFIXES:
        known = plain(", ".join(SUFFIXES))
        raise UsageError(text("The checkpoint {path} is not one of {known} by its name", path=path, known=known))
    if status.st_size == 0:
        raise UsageError(text("The checkpoint {path} is empty", path=path), _download_again())
    try:
        loaded = load_file(path) if path.suffix.lower() == ".safetensors" else _load_pickle(path)
    except PermissionError as error:
        raise UsageError(text("The checkpoint {path} may not be read", path=path)) from error
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, LookupError, pickle.UnpicklingError) as error:
        if _carries_code(path, error):
            raise UsageError(
                text("The checkpoint {path} carries code besides weights and was not loaded", path=path),
                text("Use the checkpoint that its authors publish; nothing in this one was run"),
            ) from error
        raise UsageError(text("The checkpoint {path} is cut short or damaged", path=path), _download_again()) from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("params"), Mapping):
        loaded = loaded["params"]
    if not isinstance(loaded, Mapping) or not all(isinstance(entry, Tensor) for entry in loaded.values()):
        raise UsageError(
            text("The checkpoint {path} is not DDColor's: it is not a table of weights", path=path), _look_into(path)
        )
    return {str(name): entry for name, entry in loaded.items()}


def _load_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # torch warns of newer pickle protocols, and then refuses them.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except (AttributeError, TypeError, AssertionError, UnicodeDecodeError) as error:
        # Bytes that are no pickle make the unpickler stumble in ways of their own.
        raise pickle.UnpicklingError(str(error)) from error


def _carries_code(path: Path, error: Exception) -> bool:
    """Whether the restricted unpickler stopped at something to import, and not at broken bytes."""
    if not isinstance(error, pickle.UnpicklingError):
        return False
    if "GLOBAL" in str(error):
        return True
    # Newer pickle protocols stop it at their first byte, whatever follows; reading the operations runs none of them.
    with suppress(ValueError), path.open("rb") as file:
        return any(operation.name in ("GLOBAL", "STACK_GLOBAL", "INST") for operation, _, _ in pickletools.genops(file))
    return False


def _download_again() -> Text:
    return text("Download it again and compare its size with the published one")


def _look_into(path: Path) -> Text:
    return text("`gpuwatch checkpoint inspect {path}` says what it is", path=shlex.quote(str(path)))


def _variant_of(path: Path, entries: Mapping[str, Tensor]) -> Variant:
    if VARIANT_ENTRY not in entries:
        raise UsageError(
            text("The checkpoint {path} is not DDColor's: it has no {entry}", path=path, entry=VARIANT_ENTRY),
            _look_into(path),
        )
    channels = entries[VARIANT_ENTRY].numel()
    for variant, (_, stage_channels) in VARIANTS.items():
        if stage_channels[0] == channels:
            return variant
    raise UsageError(
        text(
            "The checkpoint {path} is not DDColor's: {entry} has {count} values, not 96 (tiny) or 192 (large)",
            path=path,
            entry=VARIANT_ENTRY,
            count=channels,
        ),
        _look_into(path),
    )


def _require_layout(path: Path, entries: Mapping[str, Tensor], variant: Variant) -> None:
    expected = layout(variant)
    missing = [name for name in expected if name not in entries]
    if missing:
        raise UsageError(
            text(
                "The checkpoint {path} is not DDColor's: {count} entries are missing, among them {names}",
                path=path,
                count=len(missing),
                names=plain(", ".join(missing[:_NAMED_AT_MOST])),
            ),
            _look_into(path),
        )
    unknown = [name for name in entries if name not in expected]
    if unknown:
        raise UsageError(
            text(
                "The checkpoint {path} is not DDColor's: {count} entries are not known, among them {names}",
                path=path,
                count=len(unknown),
                names=plain(", ".join(unknown[:_NAMED_AT_MOST])),
            ),
            _look_into(path),
        )
    for name, shape in expected.items():
        if entries[name].shape != shape:
            raise UsageError(
                text(
                    "The checkpoint {path} is not DDColor's: {entry} is {found}, not {expected}",
                    path=path,
                    entry=name,
                    found=plain(str(tuple(entries[name].shape))),
                    expected=plain(str(tuple(shape))),
                ),
                _look_into(path),
            )


def random_state(variant: Variant) -> State:
    """Weights for when there is no checkpoint: the same on every run, each entry seeded by the CRC-32 of its name.

    Matrices are uniform with variance 1 / fan-in, norms the identity, spectral vectors the result of power iteration, so
    activations keep their scale and the output is finite; the colours mean nothing.
    """
    shapes = layout(variant)
    state: State = {}
    for name, shape in shapes.items():
        leaf = name.rpartition(".")[2]
        if leaf in ("weight_u", "weight_v"):
            continue
        state[name] = _random_entry(name, leaf, shape)
    state["mean"] = torch.tensor([0.485, 0.456, 0.406]).view(shapes["mean"])
    state["std"] = torch.tensor([0.229, 0.224, 0.225]).view(shapes["std"])
    state["decoder.color_decoder.color_embed.layers.2.weight"] *= COLOUR_GAIN
    for name in shapes:
        if name.endswith(".weight_u"):
            stem = name.removesuffix("_u")
            state[name], state[f"{stem}_v"] = _singular_vectors(state[f"{stem}_orig"].flatten(1))
    return state


def _random_entry(name: str, leaf: str, shape: torch.Size) -> Tensor:
    if leaf == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.long)
    if leaf == "gamma":
        return torch.full(shape, 0.2)
    if leaf == "running_var" or (leaf == "weight" and len(shape) == 1):
        return torch.ones(shape)
    if len(shape) < 2:
        return torch.zeros(shape)
    bound = math.sqrt(3 / math.prod(shape[1:]))
    return torch.empty(shape).uniform_(
        -bound, bound, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()))
    )


def _singular_vectors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    left = functional.normalize(torch.ones(matrix.shape[0]), dim=0)
    right = functional.normalize(torch.mv(matrix.T, left), dim=0)
    for _ in range(_SPECTRAL_STEPS):
        left = functional.normalize(torch.mv(matrix, right), dim=0)
        right = functional.normalize(torch.mv(matrix.T, left), dim=0)
    return left, right
