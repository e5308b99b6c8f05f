"""What is done to the machine, the card, the driver or the install rather than to the workflow: as exact as the failure's words.

The words of other programs are read here with narrow, bounded patterns: they go into commands, quoted.
"""

from __future__ import annotations

import re
import shlex
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from gpuwatch.core.case import Case
from gpuwatch.core.causes import IMPOSSIBLE_BYTES, SMALL_BYTES, killed_process
from gpuwatch.core.diagnosis import Fix
from gpuwatch.texts import Text, text

_PROCESS = re.compile(r"Xid \([^)\n]{1,60}\): \d{1,3}, pid ?= ?'?(\d{1,10})'?, name ?= ?([\w.+-]{1,64})")
_COMFYUI = re.compile(r"python|comfy|^pt_", re.IGNORECASE)
"""Names of ComfyUI's process and threads; `pt_main_thread` is what PyTorch calls its own."""
_CAPABILITY = re.compile(r"(?:capability sm_|arch[ :]{1,3}(?:sm_)?)(\d{2,3})0?\b|cuda capability (\d{1,2})\.(\d)")
_BUILT_FOR = re.compile(r"supports? CUDA capabilities ((?:(?:sm|compute)_\d{2,3}\w? ?){1,30})")
_NEW_CARD = re.compile(r"RTX 50\d\d|RTX PRO .{0,40}Blackwell|\bB[23]00\b|GB[12]0\d", re.IGNORECASE)
_OLD_CARD = re.compile(
    r"GTX (?:9|10)\d\d|TITAN (?:X|V)\b|Quadro [MP]\d|Tesla [MPV]\d|\bP(?:4|40|100)\b|V100", re.IGNORECASE
)
_FOUND_DRIVER = re.compile(r"found version (\d{4,5})\b")
_INDEX = "https://download.pytorch.org/whl/"
_EXTENSION = re.compile(r"\(at (?![^)]{0,400}(?:aten|c10|torch))[^)]{0,400}?([\w-]{1,64}\.cuh?):\d")
"""A source file with kernels that is not PyTorch's own."""
_DOWNLOAD = re.compile(
    r"expected file size is: ([\d.]{1,20}) MB\. The target location (\S{1,400}) only has ([\d.]{1,20}) MB"
)
_MB = 10**6


def lines_of(case: Case) -> tuple[str, ...]:
    """The failure's lines, each no longer than a pattern should look at."""
    return tuple(line[:4000] for line in (case.incident.text, *case.incident.excerpt))


def first(case: Case, pattern: re.Pattern[str]) -> re.Match[str] | None:
    """The first place where a pattern is found in the failure's lines."""
    return next((found for line in lines_of(case) if (found := pattern.search(line)) is not None), None)


def other_program(case: Case) -> re.Match[str] | None:
    """The program that the kernel names as the faulty one, where it is not ComfyUI."""
    named = first(case, _PROCESS)
    return None if named is None or _COMFYUI.search(named[2]) else named


def plan_isolate_node(case: Case) -> list[Fix]:
    """Have the traceback name the node that is really at fault; only where it is ComfyUI that faulted."""
    if other_program(case) is not None:
        return []
    title = text("Run once with CUDA_LAUNCH_BLOCKING=1: the traceback then names the node that is really at fault.")
    return [Fix("isolate_node", title, "restarts", command="CUDA_LAUNCH_BLOCKING=1 python main.py")]


def plan_restart_server(case: Case) -> list[Fix]:
    """Restart the program that failed: the one that the kernel names, else ComfyUI."""
    named = other_program(case)
    if named is not None:
        title = text("Restart {name} (pid {pid}): it is the program that faulted.", name=named[2], pid=int(named[1]))
        return [Fix("restart_server", title, "restarts", {"pid": int(named[1])})]
    killed = killed_process(case)
    if killed is not None and not _COMFYUI.search(killed[0]):
        return []
    return [Fix("restart_server", text("Restart ComfyUI, then queue the prompt again."), "restarts")]


def plan_reset_gpu(case: Case) -> list[Fix]:
    """Reset the card, by its address where the failure tells it."""
    pci, index = case.incident.facts.get("pci"), case.incident.facts.get("gpu_index")
    command = "sudo nvidia-smi --gpu-reset"
    if isinstance(pci, str) and re.fullmatch(r"(?:[0-9A-Fa-f]{4,8}:)?[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}", pci):
        command += f" -i {pci}.0"
    elif isinstance(index, int) and 0 <= index < 64:
        command += f" -i {index}"
    title = text("Reset the GPU, or reboot where the reset is refused.")
    note = text("End every program that uses this card first; the reset is refused while one does.")
    return [Fix("reset_gpu", title, "restarts", command=command, note=note)]


def plan_update_driver(case: Case) -> list[Fix]:
    """Update the driver; with the versions, where the failure or the driver tells them."""
    runs = runs_cuda(case)
    driver = case.around.gpu.driver if case.around.gpu else None
    if case.incident.label == "driver_too_old" and runs is not None:
        title = text(
            "Update the NVIDIA driver: this one runs CUDA {major}.{minor} at most.", major=runs[0], minor=runs[1]
        )
    elif driver is not None:
        title = text("Update the NVIDIA driver; {version} is installed.", version=driver)
    else:
        title = text("Update the NVIDIA driver.")
    return [Fix("update_driver", title, "restarts")]


def runs_cuda(case: Case) -> tuple[int, int] | None:
    """The newest CUDA that the driver runs, as PyTorch prints it: 11040 is 11.4."""
    found = first(case, _FOUND_DRIVER)
    return None if found is None else (int(found[1]) // 1000, int(found[1]) % 1000 // 10)


def plan_older_build(case: Case) -> list[Fix]:
    """A PyTorch for the CUDA that the driver runs."""
    runs = runs_cuda(case)
    if runs is None or runs[0] not in (11, 12):
        return []
    build = "cu118" if runs[0] == 11 else "cu126"
    title = text(
        "If the driver cannot be updated, install PyTorch's {build} build: this driver runs CUDA {major}.{minor} at most.",
        build=build, major=runs[0], minor=runs[1],
    )  # fmt: skip
    return [Fix("install", title, "restarts", {"build": build}, command=_install(build))]


def plan_matching_build(case: Case) -> list[Fix]:
    """A PyTorch with kernels for this card, where the failure or the driver tells which card it is."""
    arch, card = capability(case), case.around.gpu.name if case.around.gpu else ""
    new = (arch is not None and arch >= 100) or bool(_NEW_CARD.search(card))
    old = (arch is not None and arch < 75) or bool(_OLD_CARD.search(card))
    extension = first(case, _EXTENSION)
    if extension is not None:
        title = text("Reinstall the extension that {file} belongs to, built for this GPU; PyTorch may be right as it is.",
                     file=extension[1])  # fmt: skip
        return [Fix("install", title, "restarts", {"file": extension[1]})]
    if new == old or (arch is not None and arch < 50):
        return []
    build = "cu128" if new else "cu126"
    built = first(case, _BUILT_FOR)
    values: dict[str, Any] = {"build": build, "card": f"sm_{arch}" if arch is not None else card}
    title = (
        text("Install PyTorch's {build} build: the card is {card}, this build is for {built}.",
             built=built[1].strip(), **values)
        if built is not None
        else text("Install PyTorch's {build} build, which has kernels for {card}.", **values)
    )  # fmt: skip
    note = text("Then reinstall extensions with kernels of their own (xformers, SageAttention, nunchaku).")
    return [Fix("install", title, "restarts", {"build": build}, None, _install(build), note, "signs")]


def capability(case: Case) -> int | None:
    """The card's architecture as the failure prints it: sm_120 is 120."""
    found = first(case, _CAPABILITY)
    if found is None:
        return None
    return int(found[1]) if found[1] else int(found[2]) * 10 + int(found[3])


def _install(build: str) -> str:
    return f"python -m pip install --upgrade torch torchvision torchaudio --index-url {_INDEX}{build}"


def plan_free_disk(case: Case) -> list[Fix]:
    """Room on the disk that is full: which, and how much, where the failure tells."""
    download = first(case, _DOWNLOAD)
    if download is not None:
        needed, free = (
            round(float(number) * _MB) if _is_number(number) else 0 for number in (download[1], download[3])
        )
        if needed > free:
            title = text(
                "Free {short_bytes} on the disk of {path}: the file has {needed_bytes}, and {free_bytes} is free.",
                short_bytes=needed - free, path=download[2], needed_bytes=needed, free_bytes=free,
            )  # fmt: skip
            return [Fix("free_disk", title, command=f"df -h {shlex.quote(download[2])}", grounds="signs")]
    path = case.incident.facts.get("path")
    if isinstance(path, str) and path:
        windows = re.match(r"[A-Za-z]:\\", path)
        folder = PureWindowsPath(path).anchor if windows else str(PurePosixPath(path).parent)
        title = text("Free space on the disk of {path}.", path=folder)
        return [
            Fix("free_disk", title, command=None if windows else f"df -h {shlex.quote(folder)}", note=_incomplete(path))
        ]
    return [Fix("free_disk", text("Free space on the disk that is full."), command="df -h")]


def _incomplete(path: str) -> Text:
    return text("{path} is incomplete: delete it before it is used.", path=path[:200])


def _is_number(words: str) -> bool:
    return re.fullmatch(r"\d{1,15}(?:\.\d{1,6})?", words) is not None


def plan_free_host_memory(case: Case) -> list[Fix]:
    """Room in the machine's memory: how much is missing, or who was ended for it."""
    killed, host, tried = killed_process(case), case.around.host, case.incident.facts.get("tried_bytes")
    if killed is not None and killed[2]:
        title = (
            text("Add RAM or swap, or load fewer and smaller models: {name} alone held {held_bytes}.",
                 name=killed[0], held_bytes=killed[2])
            if _COMFYUI.search(killed[0])
            else text("Close or limit {name}: it held {held_bytes}.", name=killed[0], held_bytes=killed[2])
        )  # fmt: skip
        return [Fix("free_host_memory", title)]
    if isinstance(tried, int) and host is not None and host.memory_available_bytes < tried < IMPOSSIBLE_BYTES:
        title = text(
            "Close other programs or add swap: {short_bytes} of the machine's memory was missing.",
            short_bytes=tried - host.memory_available_bytes,
        )
        return [Fix("free_host_memory", title)]
    return [
        Fix(
            "free_host_memory",
            text("Close other programs or add swap: the machine's own memory ran out, not the GPU's."),
        )
    ]


def plan_smaller_array(case: Case) -> list[Fix]:
    """Fewer images at a time, with what each takes, where the failure names the array; nothing where little was asked for."""
    tried, shape = case.incident.facts.get("tried_bytes"), case.incident.facts.get("tensor_shape")
    if not isinstance(tried, int) or not isinstance(shape, list) or len(shape) != 4 or not 1 < shape[0] < 10**6:
        return []
    if tried < SMALL_BYTES:
        return []
    title = text(
        "Fewer than {count} images or frames at a time: each takes {each_bytes} (computed).",
        count=shape[0], each_bytes=tried // shape[0],
    )  # fmt: skip
    return [Fix("reduce_batch", title, "changes_output", grounds="signs")]


def plan_free_shared_memory(case: Case) -> list[Fix]:
    """On a Mac: let go of what is allocated beside PyTorch's, where that would be enough. Whose it is, the message does not say:
    it may be the same process's."""
    tried, other = (case.incident.facts.get(name) for name in ("tried_bytes", "other_allocations_bytes"))
    if not isinstance(tried, int) or not isinstance(other, int) or other < tried:
        return []
    title = text(
        "Restart ComfyUI and close other programs: allocations beside PyTorch's hold {held_bytes} of the memory that GPU and "
        "machine share.",
        held_bytes=other,
    )
    return [Fix("free_host_memory", title, grounds="signs")]
