"""What a running ComfyUI says of itself when a workflow is to be changed: its nodes, its version, its card."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gpuwatch.errors import UnreachableError, UsageError
from gpuwatch.texts import text

TIMEOUT_SECONDS = 20.0
MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Said:
    """A server's own words."""

    object_info: Any
    version: str | None
    total_bytes: int | None


def ask_server(server: str) -> Said:
    """Ask a server for its nodes and its card. Raises UnreachableError where it does not answer as ComfyUI does."""
    address = server if "://" in server else f"http://{server}"
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(text("{server} is no address of a server; write http://127.0.0.1:8188.", server=server))
    stats = _json(address, "/system_stats")
    nodes = _json(address, "/object_info")
    system = stats.get("system") if isinstance(stats, dict) else None
    if not isinstance(system, dict) or not isinstance(nodes, dict):
        raise UnreachableError(text("{server} answers, but not as ComfyUI does.", server=server))
    devices = stats.get("devices")
    device = devices[0] if isinstance(devices, list) and devices and isinstance(devices[0], dict) else {}
    total = device.get("vram_total") if device.get("type") != "cpu" else None
    version = system.get("comfyui_version")
    return Said(
        nodes,
        version if isinstance(version, str) else None,
        total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else None,
    )


def _json(address: str, path: str) -> Any:
    url = address.rstrip("/") + path
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - the scheme was looked at
            content = answer.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UnreachableError(text("{url} answers with more than {most_bytes}.", url=url, most_bytes=MOST_BYTES))
        return json.loads(content)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise UnreachableError(
            text("{url} does not answer: {reason}.", url=url, reason=str(reason)),
            text("Is ComfyUI running there? Without --server the nodes that ship known are used."),
        ) from error
    except (ValueError, RecursionError) as error:
        raise UnreachableError(text("{url} answers, but not as ComfyUI does.", url=url)) from error
