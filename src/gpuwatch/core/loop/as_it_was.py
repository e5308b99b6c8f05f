"""Which failed jobs may be queued again just as they were: those whose cause lies outside their workflow, once that is mended.

Whether it is mended cannot be seen from here. A person is told what comes first, and it is they who say that it is done; the
job's end says whether it was enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpuwatch.core.diagnosis import Fix
from gpuwatch.core.incidents import Incident
from gpuwatch.core.loop.broken import only_a_restart_helps
from gpuwatch.core.loop.next_try import Retry, digest_of
from gpuwatch.core.loop.tried import Scene, values_of
from gpuwatch.core.rules import QUEUE_AGAIN, Label
from gpuwatch.core.workflow.changes import Plan

OUTSIDE: frozenset[Label] = frozenset({
    "disk_full", "model_missing", "model_corrupt", "missing_node", "import_failed", "download_failed",
    "filesystem_no_mmap", "host_oom", "host_oom_killed", "windows_pagefile", "pinned_memory_failure",
    "cuda_device_busy", "driver_too_old", "no_nvidia_driver", "no_cuda_device", "torch_no_cuda", "nvml_mismatch",
    "no_kernel_image", "cuda_unknown_error", "request_failed", "websocket_disconnect", "gpu_lost", "gsp_timeout", "xid",
    "amdgpu_hang", "gpu_hang_intel", "xpu_device_lost", "gpu_memory_fault_hip", "illegal_memory_access",
    "misaligned_address", "illegal_instruction", "launch_failure", "launch_timeout", "poisoned_context", "worker_dead",
    "nccl_error", "segfault",
})  # fmt: skip
"""What can be mended without a change to the workflow. An assert on the device is not among them: its inputs are wrong."""


def as_it_was(prompt: Mapping[str, Any], incident: Incident | None, server: str) -> Retry | None:
    """The same prompt once more; None where its own values are the cause, or where that is not known."""
    if incident is None or incident.label not in OUTSIDE:
        return None
    scene = Scene(server, incident.node.type or incident.node.pack or "?", values_of(incident.node.inputs))
    return Retry(QUEUE_AGAIN, prompt, Plan(), digest_of(QUEUE_AGAIN, prompt), scene)


def first_step(incident: Incident, *, restarted: bool) -> Fix | None:
    """What has to be done before; None where nothing is known, or where it was the restart that the server had since."""
    if restarted and only_a_restart_helps(incident):
        return None
    return next(iter(incident.diagnosis.fixes), None) if incident.diagnosis is not None else None
