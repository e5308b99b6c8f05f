"""What the stand-in answers to who asks: what it is, its queue, its history, its job list, the pictures that it was given."""

from __future__ import annotations

import copy
import email
from collections.abc import Mapping
from typing import Any

from tests.standin.comfyui import ComfyUI, Item


def upload(comfyui: ComfyUI, kind: str, body: bytes) -> dict[str, str]:
    """POST /upload/image."""
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    parts = {str(part.get_param("name", header="content-disposition")): part for part in message.walk()}
    fields = {
        name: bytes(part.get_payload(decode=True) or b"").decode()
        for name, part in parts.items()
        if name in {"type", "subfolder"}
    }
    name = str(parts["image"].get_filename())
    with comfyui.lock:
        comfyui.uploads[f"{fields['subfolder']}/{name}"] = bytes(parts["image"].get_payload(decode=True))  # type: ignore[arg-type]  # decoded
    return {"name": name, **fields}


def view(comfyui: ComfyUI, query: Mapping[str, str]) -> bytes | None:
    """GET /view: the very photo that the prompt was given, so that a test can tell whose result it is."""
    with comfyui.lock:
        entry = comfyui.history.get(query["filename"].removesuffix(".png"))
        if entry is None:
            return None
        loaded = [node["inputs"]["image"] for node in entry["prompt"][2].values() if node["class_type"] == "LoadImage"]
        return comfyui.uploads[loaded[0]] if loaded else b"picture"


def system_stats(comfyui: ComfyUI) -> dict[str, Any]:
    stats: dict[str, Any] = copy.deepcopy(comfyui.recorded["system_stats"])
    device = {"name": "cuda:0 NVIDIA GeForce RTX 2060 : native", "type": "cuda", "index": 0}
    device |= {"vram_total": comfyui.card.total_bytes, "vram_free": comfyui.card.free_bytes}
    stats["devices"] = [device | {"torch_vram_total": 0, "torch_vram_free": 0}]
    return stats


def queue(comfyui: ComfyUI) -> dict[str, Any]:
    with comfyui.lock:
        running = [list(comfyui.running)] if comfyui.running is not None else []
        return {"queue_running": running, "queue_pending": [list(item) for item in comfyui.pending]}


def recent(comfyui: ComfyUI, max_items: int | None, offset: int = -1) -> dict[str, Any]:
    """GET /history: the newest `max_items`, in the order they ended."""
    with comfyui.lock:
        ids = list(comfyui.history)
        if offset < 0 and max_items:
            offset = len(ids) - max_items
        ids = ids[max(offset, 0) :][:max_items]
        return {id_: comfyui.history[id_] for id_ in ids}


def jobs(comfyui: ComfyUI, statuses: set[str], limit: int | None, offset: int) -> dict[str, Any]:
    """GET /api/jobs."""
    with comfyui.lock:
        listed = [_job(item, "pending") for item in comfyui.pending]
        if comfyui.running is not None:
            listed.append(_job(comfyui.running, "in_progress"))
        listed += [_ended_job(entry) for entry in comfyui.history.values()]
    if statuses:
        listed = [job for job in listed if job["status"] in statuses]
    listed.sort(key=lambda job: job["create_time"], reverse=True)
    page = listed[offset:] if limit is None else listed[offset : offset + limit]
    more = offset + len(page) < len(listed)
    return {"jobs": page, "pagination": {"offset": offset, "limit": limit, "total": len(listed), "has_more": more}}


def job(comfyui: ComfyUI, id_: str) -> dict[str, Any] | None:
    """GET /api/jobs/{id}."""
    with comfyui.lock:
        if (entry := comfyui.history.get(id_)) is not None:
            prompt, extra = entry["prompt"][2], entry["prompt"][3]
            workflow = {"prompt": prompt, "extra_data": extra}
            return _ended_job(entry) | {
                "outputs": entry["outputs"],
                "execution_status": entry["status"],
                "workflow": workflow,
            }
        for item in comfyui.pending:
            if item[1] == id_:
                return _job(item, "pending")
        if comfyui.running is not None and comfyui.running[1] == id_:
            return _job(comfyui.running, "in_progress")
    return None


def _job(item: Item, status: str) -> dict[str, Any]:
    return {
        "id": item[1], "status": status, "priority": item[0], "create_time": item[3].get("create_time", 0),
        "outputs_count": 0,
    }  # fmt: skip


def _ended_job(entry: Mapping[str, Any]) -> dict[str, Any]:
    said = dict(entry["status"]["messages"])
    status = (
        "completed" if "execution_success" in said else "cancelled" if "execution_interrupted" in said else "failed"
    )
    job = _job(tuple(entry["prompt"]), status)
    job["execution_start_time"] = said["execution_start"]["timestamp"]
    job["execution_end_time"] = entry["status"]["messages"][-1][1]["timestamp"]
    if "execution_error" in said:
        job["execution_error"] = said["execution_error"]
    return job
