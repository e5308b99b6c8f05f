"""Which program a process is, for those that hold memory on a card: ComfyUI, our own runner, or another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath

import psutil

from gpuwatch.core.observations import GpuProcess, Program


class Programs:
    """Remembers what each process is: its command line is read once in its life."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[float, Program]] = {}

    def holding(self, used: Mapping[int, int | None], name: Callable[[int], str | None]) -> tuple[GpuProcess, ...]:
        """What each process holds, with its name and what it is."""
        self._known = {pid: known for pid, known in self._known.items() if psutil.pid_exists(pid)}
        return tuple(GpuProcess(pid, name(pid), count, self.program(pid)) for pid, count in sorted(used.items()))

    def program(self, pid: int) -> Program:
        """What the process is."""
        try:
            process = psutil.Process(pid)
            known = self._known.get(pid)
            if known is None or known[0] != process.create_time():
                known = self._known[pid] = process.create_time(), program_of(process.cmdline(), process.cwd())
        except (psutil.Error, ValueError, OSError):
            return "other"
        return known[1]


def name_of(pid: int) -> str | None:
    """The process's name; None where there is none, or it may not be known."""
    try:
        return psutil.Process(pid).name()
    except (psutil.Error, ValueError):
        return None


def program_of(words: Sequence[str], folder: str) -> Program:
    """What a process is, from its command line: ComfyUI is the main.py of a folder that has its packages beside it."""
    if any(word == "gpuwatch_runner" for word in words):
        return "runner"
    main = next((word for word in words if PurePath(word).name == "main.py"), None)
    if main is None:
        return "other"
    place = Path(folder, main).parent
    return "comfyui" if (place / "comfy").is_dir() or (place / "comfyui_version.py").is_file() else "other"
