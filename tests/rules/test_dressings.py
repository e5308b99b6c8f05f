"""The same failure, however its log was kept: what a launcher, a container, a journal or a chat puts around a line hides nothing.

Every rule is tried in every dressing, with its examples in turn. Left out are dressings that change the words themselves: those
of a tool that joins lines or escapes them are tried with the messages that are met so.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.rules import Rule
from tests.rules.corpus import facts_of, incidents_of

RULES = load_rules()
Dressing = Callable[[str], str]


def before_each_line(prefix: str) -> Dressing:
    return lambda log: "\n".join(prefix + line for line in log.split("\n"))


def packed(log: str) -> str:
    entries = (
        {"log": f"{line}\n", "stream": "stderr", "time": "2026-01-01T12:00:00.1Z"}
        for line in log.rstrip("\n").split("\n")
    )
    return "\n".join(json.dumps(entry, separators=(",", ":"), ensure_ascii=False) for entry in entries) + "\n"


DRESSINGS: dict[str, Dressing] = {
    "manager's stamp": before_each_line("[2026-01-01 12:00:00.123] "),
    "level tag": before_each_line("[ERROR] "),
    "coloured level tag": before_each_line("\x1b[1m\x1b[31m[ERROR]\x1b[0m "),
    "coloured line": lambda log: "\n".join(f"\x1b[31m{line}\x1b[0m" for line in log.split("\n")),
    "colours without their escape byte": before_each_line("[31m[ERROR][0m "),
    "docker compose": before_each_line("comfyui-1  | "),
    "docker compose with times": before_each_line("comfyui  | 2026-01-01T12:00:00.123456789Z "),
    "docker's json file": packed,
    "kubernetes": before_each_line("2026-01-01T12:00:00.123456789Z stdout F "),
    "kubectl with the pod's name": before_each_line("[pod/comfyui-7d9f/main] "),
    "journal": before_each_line("Jan 01 12:00:00 box comfyui[123]: "),
    "journal, ISO": before_each_line("2026-01-01T12:00:00+0000 box comfyui[123]: "),
    "quoted": before_each_line("> "),
    "quoted twice": before_each_line("> > "),
    "Windows line ends": lambda log: log.replace("\n", "\r\n") + "\r\n",
    "trailing spaces": lambda log: "\n".join(f"{line}   " for line in log.split("\n")),
    "fenced": lambda log: f"```powershell\n{log}\n```\n",
    "logging": before_each_line("2026-01-01 12:00:00,123 - root - ERROR - "),
    "logging without dashes": before_each_line("2026-01-01 12:00:00,123 ERROR "),
    "loguru": before_each_line("2026-01-01 12:00:00.123 | ERROR    | pack.mod:run:12 - "),
    "old logging": before_each_line("ERROR:root:"),
    "ComfyUI's error report": before_each_line("2026-01-01T12:00:00.123456 - "),
    "SwarmUI": before_each_line("12:00:00.123 [Warning] [ComfyUI-0/STDERR] "),
    "clock": before_each_line("[12:00:00] "),
    "ray": before_each_line("(RayWorker pid=4009) "),
    "torchrun": before_each_line("[rank0]: "),
    "no-break spaces": lambda log: log.replace(" ", "\u00a0"),
    "issue's title": lambda log: f"[Bug]: {log}",
    "open bar": lambda log: f" 35%|███▌      | 7/20 [00:05<00:09,  1.35it/s]{log}",
    "in a run": lambda log: (
        f"got prompt\nmodel_type EPS\nUsing pytorch attention in VAE\n{log}\nPrompt executed in 3.20 seconds\n"
    ),
}


@pytest.mark.parametrize("dressing", DRESSINGS)
@pytest.mark.parametrize("rule", list(RULES), ids=lambda rule: rule.id)
def test_a_dressed_failure_is_the_same_failure(rule: Rule, dressing: str) -> None:
    example = rule.matching_examples[list(DRESSINGS).index(dressing) % len(rule.matching_examples)]
    plain = {incident.label for incident in incidents_of(example.log, RULES) if incident.rule.id == rule.id}
    dressed = incidents_of(DRESSINGS[dressing](example.log), RULES)
    assert plain <= {incident.label for incident in dressed}, [(i.rule.id, i.text) for i in dressed]


@pytest.mark.parametrize(
    ("log", "label", "facts"),
    [
        pytest.param(
            "OutOfMemoryError: CUDA out of memory. Tried to\nallocate 14.00 MiB (GPU 0; 4.00 GiB total\ncapacity; 3.50 GiB already"
            " allocated; 0 bytes free;\n3.75 GiB reserved in total by PyTorch) If reserved\nmemory is >> allocated memory",
            "cuda_oom",
            {"tried_bytes": 14 << 20, "total_bytes": 4 << 30, "free_bytes": 0, "reserved_bytes": 15 << 28},
            id="wrapped between words",
        ),
        pytest.param(
            "CUDA out of memory. Tried to allocate 1.5\n0 GiB. GPU 1 has a total capacity of 8.00 Gi\nB of which 0 bytes is free.",
            "cuda_oom",
            {"tried_bytes": 3 << 29, "gpu_index": 1, "total_bytes": 8 << 30},
            id="wrapped within words",
        ),
        pytest.param(
            "RuntimeError: CUDA error: device-side assert triggered Search for `cudaErrorAssert' in https://docs.nvidia.com for"
            " more information. Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
            "device_side_assert",
            {},
            id="joined to one line",
        ),
        pytest.param(
            "# ComfyUI Error Report ## Error Details - **Node ID:** 3 - **Node Type:** KSampler - **Exception Type:**"
            " torch.OutOfMemoryError - **Exception Message:** Allocation on device ## Stack Trace",
            "cuda_oom",
            {"node_id": "3", "node_type": "KSampler"},
            id="a report as one line",
        ),
        pytest.param(
            json.dumps(
                {
                    "type": "execution_error",
                    "data": {
                        "node_id": "3",
                        "node_type": "KSampler",
                        "exception_message": "\"addmm_impl_cpu_\" not implemented for 'Half'\n",
                        "exception_type": "RuntimeError",
                    },
                }
            ),
            "half_on_cpu",
            {"node_id": "3", "node_type": "KSampler"},
            id="the server's own event",
        ),
        pytest.param(
            'Traceback (most recent call last): File "main.py", line 1, in <module> import odd ModuleNotFoundError: No module named'
            " 'odd'",
            "import_failed",
            {"name": "odd"},
            id="a traceback as one line",
        ),
        pytest.param(
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 8.00 GiB total capacity; 5.00 GiB"
            " already allocated; 1.00 GiB free; 6.00 GiB reserved in total by PyTorch) If reserved memory is &gt;&gt; allocated",
            "cuda_oom",
            {"reserved_bytes": 6 << 30},
            id="HTML",
        ),
    ],
)
def test_what_was_wrapped_joined_or_escaped_is_read(log: str, label: str, facts: dict[str, object]) -> None:
    (incident,) = incidents_of(log, RULES)
    assert incident.label == label
    found = facts_of([incident])
    assert {name: found.get(name) for name in facts} == facts
