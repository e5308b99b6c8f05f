"""What there is to watch on this machine: ComfyUI servers on the ports that they use, and log files of those that run.

Two ports are asked with a short patience, nothing else is scanned. A process is known by its words: `python ... main.py`, and
its log files lie where ComfyUI-Manager writes them. A server that was found stands for its own files.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from gpuwatch.adapters.comfyui.address import Server, server_of
from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.adapters.comfyui.reading import part, words_of
from gpuwatch.adapters.loopback import is_loopback
from gpuwatch.texts import Text, text

PORTS = (8188, 8000)
"""ComfyUI's own, and the desktop app's."""
_PATIENCE_SECONDS = 1.0
_MOST_BYTES = 1 << 20
_MOST_FILES = 20
_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Found:
    """Something to watch."""

    spec: str
    """As it is named on the command line."""
    what: Text


@dataclass(frozen=True, slots=True)
class Running:
    """A ComfyUI process."""

    pid: int
    folder: Path
    port: int
    user_folder: Path


def discovered(ports: Sequence[int] = PORTS) -> list[Found]:
    """Servers first, then the log files of processes whose server does not answer."""
    running = list(processes())
    asked = list(dict.fromkeys([*ports, *(process.port for process in running)]))
    versions = answering(asked)
    found = [
        Found(f"http://127.0.0.1:{port}", text("ComfyUI {version} on port {port}", version=version, port=str(port)))
        for port, version in versions.items()
    ]
    files: dict[str, Found] = {}
    for process in running:
        if process.port not in versions:
            for path in log_files(process):
                files[str(path)] = Found(str(path), text("the log of ComfyUI, process {pid}", pid=str(process.pid)))
    return found + list(files.values())[:_MOST_FILES]


def answering(ports: Sequence[int]) -> dict[int, str]:
    """The ports on which a ComfyUI answers, and its version; all are asked at the same time."""
    versions: dict[int, str] = {}

    def ask(port: int) -> None:
        client = Client(
            server_of(f"http://127.0.0.1:{port}"), timeout_seconds=_PATIENCE_SECONDS, most_bytes=_MOST_BYTES
        )
        with suppress(NoAnswerError):
            system = part(client.get("/system_stats"), "system")
            if "comfyui_version" in system:
                versions[port] = words_of(system["comfyui_version"], 40) or ""
        client.close()

    threads = [threading.Thread(target=ask, args=(port,), daemon=True) for port in ports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE_SECONDS * 3)
    return {port: versions[port] for port in ports if port in versions}


def processes() -> Iterator[Running]:
    """The ComfyUI processes that we may look at."""
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        script = next((Path(word) for word in words[1:4] if Path(word).name == "main.py"), None)
        if script is None:
            continue
        with suppress(psutil.Error, OSError):
            running = running_of(process.pid, words, Path(process.cwd()), script)
            if running is not None:
                yield running


def running_of(pid: int, words: Sequence[str], cwd: Path, script: Path) -> Running | None:
    """What a process is by its words and its folder; None where that is no ComfyUI's."""
    folder = (cwd / script).parent
    if not (folder / "comfy").is_dir() or not (folder / "nodes.py").is_file():
        return None
    base = Path(_value(words, "--base-directory") or folder)
    user = Path(_value(words, "--user-directory") or base / "user")
    return Running(pid, folder, _port(_value(words, "--port")), cwd / user)


def surroundings_of(server: Server) -> dict[str, Any]:
    """What this machine tells of a server: whether it is here, and which cards its process may see."""
    local = is_own(server.host)
    found: dict[str, Any] = {"local": local}
    here = next((process for process in processes() if process.port == server.port), None) if local else None
    if here is not None:
        with suppress(psutil.Error, OSError):
            environment = psutil.Process(here.pid).environ()
            found["visible_devices"] = environment.get("CUDA_VISIBLE_DEVICES", "")[:_LONGEST]
            found["by_bus"] = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    return found


def is_own(host: str) -> bool:
    """Whether the host is this machine, by its address or its name."""
    if is_loopback(host) or host == socket.gethostname():
        return True
    with suppress(OSError):
        return any(each.address.partition("%")[0] == host for known in psutil.net_if_addrs().values() for each in known)
    return False


def log_files(process: Running) -> list[Path]:
    """The files that ComfyUI-Manager writes for a process: named by its port where one was given."""
    own = process.user_folder / f"comfyui_{process.port}.log"
    common = process.user_folder / "comfyui.log"
    with suppress(OSError):
        return [path for path in (own, common) if path.is_file()][:1]
    return []


def _port(words: str | None) -> int:
    """The port that another program's command line names; ComfyUI's own where it names none that can be."""
    if words is None or not (words.isascii() and words.isdecimal()) or len(words) > 5:
        return PORTS[0]
    return int(words) if 0 < int(words) < 1 << 16 else PORTS[0]


def _value(words: Sequence[str], option: str) -> str | None:
    for place, word in enumerate(words):
        if word == option and place + 1 < len(words):
            return words[place + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None
