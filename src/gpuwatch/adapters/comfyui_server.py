"""What a running ComfyUI says of itself when a workflow is to be changed: its nodes, its version, its card."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from gpuwatch.adapters.comfyui.address import Server
from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.adapters.comfyui.reading import whole
from gpuwatch.errors import UnreachableError
from gpuwatch.texts import text

TIMEOUT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Said:
    """A server's own words."""

    object_info: Any
    version: str | None
    total_bytes: int | None


def ask_server(server: Server) -> Said:
    """Ask a server for its nodes and its card. Raises UnreachableError where it does not answer as ComfyUI does."""
    with closing(Client(server, timeout_seconds=TIMEOUT_SECONDS)) as client:
        try:
            stats = client.get("/system_stats")
            nodes = client.get("/object_info")
        except NoAnswerError as error:
            if error.hint is not None:
                raise
            raise UnreachableError(
                error.message,
                text("Is ComfyUI running there? Without --server the nodes that ship known are used."),
            ) from error
    system = stats.get("system") if isinstance(stats, dict) else None
    if not isinstance(system, dict) or not isinstance(nodes, dict):
        raise UnreachableError(
            text("{server}: answers, but not as ComfyUI does.", server=server.name),
            text("Is it a ComfyUI server? Behind a reverse proxy, write its path too: http://HOST:PORT/PATH"),
        )
    devices = stats.get("devices")
    device = devices[0] if isinstance(devices, list) and devices and isinstance(devices[0], dict) else {}
    total = whole(device.get("vram_total")) if device.get("type") != "cpu" else None
    version = system.get("comfyui_version")
    return Said(
        nodes,
        version if isinstance(version, str) else None,
        total or None,
    )
