"""Other ways to ask for less at once: tiles, smaller batches, flags that the server's version has and that reach the node."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import ceil
from typing import Any

from gpuwatch.core.case import Case, node_name
from gpuwatch.core.causes import IMPOSSIBLE_BYTES
from gpuwatch.core.diagnosis import Fix
from gpuwatch.core.planners.sizes import grounds_of_less
from gpuwatch.texts import text

TILED: Mapping[str, str] = {"VAEDecode": "VAEDecodeTiled", "VAEEncode": "VAEEncodeTiled"}
"""Nodes with a sibling that works in tiles over the same links."""
TILE_INPUTS = ("tile_size", "tile_width", "tile_height")
_LEAST_TILE_PX = _TILE_STEP_PX = 64
BATCH_INPUTS = ("batch_size", "images_per_batch", "frames_per_batch", "per_batch")
SAMPLERS = ("KSampler", "SamplerCustom")
"""Begins of the names of ComfyUI's own samplers: their models are under its memory management, which flags steer."""
_GIB = 1 << 30
_FIRST_KNOWN, _LAST_KNOWN = (0, 3, 0), (0, 99, 0)
"""Versions whose flags were read in their sources, or that may be taken to be like them."""
RESERVE = "--reserve-vram"
USUAL_RESERVE_GIB = 0.6


def plan_tile_vae(case: Case) -> list[Fix]:
    """Tiles for the VAE, where the failure is in it; smaller ones where it has tiles."""
    smaller = _smaller_tiles(case)
    if smaller:
        return smaller
    node = case.incident.node.type
    frames = [(frame.function or "", frame.file.lower().replace("\\", "/")) for frame in case.incident.frames]
    in_vae = any("vae" in function.lower() or "autoencoder" in file or "vae" in file for function, file in frames)
    if (node is None and not in_vae) or (node is not None and node not in TILED):
        return []
    encodes = node == "VAEEncode" or (node is None and any("encode" in function.lower() for function, _ in frames))
    if encodes:
        title = text("Replace VAEEncode by VAEEncodeTiled (tile size 512): the image is the same but for faint seams.")
    else:
        title = text("Replace VAEDecode by VAEDecodeTiled (tile size 512): the image is the same but for faint seams.")
    tiles = 512
    note = None
    if any("tiled" in function for function, _ in frames):
        tiles = 256
        title = text("Decode in tiles of {tile}: ComfyUI tried larger ones by itself, and they failed too.", tile=tiles)
        note = text("With the node VAEDecodeTiled; the image is the same but for faint seams.")
    kind = TILED["VAEEncode" if encodes else "VAEDecode"]
    params = {"node_type": node, "to": kind, "inputs": {"tile_size": tiles}}
    return [Fix("tile_vae", title, "changes_output", params, note=note, grounds="signs")]


def _smaller_tiles(case: Case) -> list[Fix]:
    """Half the side of the failed node's own tiles."""
    for name in TILE_INPUTS:
        was = case.incident.node.inputs.get(name)
        if isinstance(was, bool) or not isinstance(was, int) or was <= _LEAST_TILE_PX:
            continue
        to = max(was // 2 // _TILE_STEP_PX * _TILE_STEP_PX, _LEAST_TILE_PX)
        title = text(
            "Set {input} to {tile} on {node} (it was {was}).", input=name, tile=to, was=was, node=node_name(case)
        )
        note = text("A tile of half the side holds a quarter of the pixels (computed); there may be faint seams.")
        params: dict[str, Any] = {"node_type": case.incident.node.type, "input": name, "from": was, "to": to}
        return [Fix("tile_vae", title, "changes_output", params, note=note, grounds="signs")]
    return []


def plan_reduce_batch(case: Case) -> list[Fix]:
    """A smaller batch, where the node's memory grows with it."""
    if case.profile is not None:  # DDColor's nodes take one image at a time, or as many as fit: a batch raises no peak
        return []
    node, balance = case.incident.node, case.balance
    if (node.type or "").endswith("Loader") or (balance.tried_bytes or 0) >= IMPOSSIBLE_BYTES:
        return []
    told = {name: node.inputs[name] for name in BATCH_INPUTS if name in node.inputs}
    for name, was in told.items():
        if isinstance(was, bool) or not isinstance(was, int) or was <= 1:
            continue
        each = balance.tried_bytes / was if balance.tried_bytes is not None else None
        to = was // 2
        if each and balance.short_bytes is not None:
            to = min(max(int((balance.free_bytes or 0) / each), 1), was - 1)
        title = text(
            "Set {input} to {count} on {node} (it was {was}).", input=name, count=to, was=was, node=node_name(case)
        )
        note = (
            text("Computed: {tried_bytes} for {was} is {each_bytes} for each, where that request grows with the batch.",
                 tried_bytes=balance.tried_bytes, was=was, each_bytes=each)
            if each
            else text("Most nodes' memory grows in proportion to the batch.")
        )  # fmt: skip
        params: dict[str, Any] = {"node_type": node.type, "input": name, "from": was, "to": to}
        return [Fix("reduce_batch", title, "changes_output", params, note=note, grounds="signs")]
    if told:
        return []
    title = text("Lower batch_size where it is above 1: most nodes' memory grows in proportion.")
    return [Fix("reduce_batch", title, "changes_output", grounds=grounds_of_less(case))]


def plan_launch_flag(case: Case) -> list[Fix]:
    """A flag of ComfyUI's that reaches this node, that its version has, and that is not set: none where the version is not
    known, and none for DDColor's nodes, which no flag touches."""
    if case.balance.oddity == "limited":
        title = text(
            "Lift the limit of {allowed_bytes} (torch.cuda.set_per_process_memory_fraction, in a node or a start script): "
            "{free_bytes} of the card was free.",
            allowed_bytes=case.balance.allowed_bytes, free_bytes=case.balance.free_bytes,
        )  # fmt: skip
        return [Fix("launch_flag", title, "restarts", grounds="signs")]
    server, node = case.around.server, case.incident.node.type or ""
    version = parsed_version(server.version if server else None)
    if case.profile is not None or server is None or version is None or not _FIRST_KNOWN <= version <= _LAST_KNOWN:
        return []
    for flag in ("--highvram", "--gpu-only"):
        if flag in server.argv:
            title = text("Start ComfyUI without {flag}: it keeps every model on the card.", flag=flag)
            return [Fix("launch_flag", title, "restarts", {"without": flag}, grounds="signs")]
    if node in TILED and "--cpu-vae" not in server.argv:
        title = text("Start ComfyUI with --cpu-vae: the VAE then needs no GPU memory, and takes minutes.")
        cpu: dict[str, Any] = {"flag": "--cpu-vae"}
        return [Fix("launch_flag", title, "restarts", cpu, command="python main.py --cpu-vae", grounds="weak")]
    if not node.startswith(SAMPLERS) or case.balance.short_bytes is None or {"--novram", "--cpu"} & set(server.argv):
        return []
    short = case.balance.short_bytes
    reserve = ceil((short / _GIB + (reserved_by(server.argv) or USUAL_RESERVE_GIB)) * 2) / 2
    total = case.balance.total_bytes
    if total is None or reserve * _GIB > total / 2:
        return []
    title = text(
        "Start ComfyUI with {flag} {gib}: it then leaves {short_bytes} more to the sampler, and more of the model in RAM.",
        flag=RESERVE, gib=f"{reserve:g}", short_bytes=short,
    )  # fmt: skip
    params: dict[str, Any] = {"flag": RESERVE, "to": reserve}
    note = text("Slower, the same picture. Whether it is enough is not known.")
    return [Fix("launch_flag", title, "restarts", params, None, f"python main.py {RESERVE} {reserve:g}", note, "signs")]


def parsed_version(words: str | None) -> tuple[int, ...] | None:
    """A version as numbers; None where it is none."""
    found = re.match(r"v?(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", words or "")
    return tuple(int(number or 0) for number in found.groups()) if found else None


def reserved_by(argv: tuple[str, ...]) -> float | None:
    """What the server's flags reserve already, in GiB."""
    for place, word in enumerate(argv):
        value = word.partition("=")[2] if word.startswith(RESERVE + "=") else None
        if word == RESERVE and place + 1 < len(argv):
            value = argv[place + 1]
        if value is not None:
            found = re.fullmatch(r"\d{1,3}(?:\.\d{1,6})?", value)
            return float(value) if found else None
    return None
