"""Lines that speak of failures and report none."""

from __future__ import annotations

import pytest

from gpuwatch.core.talk import is_talk
from tests.core.engine_log import Log

TALK = [
    "843b2b64f Odd CUDA out of memory on a small batch #255",
    "* 36ced0d9 Fix CERTIFICATE_VERIFY_FAILED errors (#1181)",
    "| * 0cb1a334 (HEAD -> main) avoid CUDA error: invalid device ordinal",
    "    Fix cudaHostRegister failed on odd memory",
    "  - Prevents CUDA error: out of memory when the VAE is tiled",
    "* No more segmentation faults at exit",
    "docs: how to deal with CUDA error: out of memory",
    'Note: if you see "CUDA error: an illegal memory access was encountered", update the driver',
    "Whenever you see a CUDA error: out of memory, close the browser",
    'odd_last_terminated_reason{reason="OOMKilled"} 0',
    "# HELP odd_total CUDA error: out of memory, how often",
    "odd_failures 3.0e+00 1732190000",
    'prompt: "a soldier killed, CUDA out of memory, segmentation fault"',
    "Negative prompt: no space left on device",
    "Hint: close the browser on CUDA error: out of memory",
    "提示词：内存不足，磁盘空间不足",
    "*** Arguments: ('task(odd)', 'a soldier killed, no space left on device, CUDA out of memory', [], 20) {}",
    "Arguments: ('a room, segmentation fault, no space left on device', 1, False) {'odd': 1}",
    '{"6": {"inputs": {"text": "no space left on device"}, "class_type": "CLIPTextEncode"}}',
]
REPORTS = [
    "CUDA error: out of memory",
    "12345 Killed",
    "deadbeef: CUDA error: out of memory",
    "0c8a1f3b2d11 CUDA error: out of memory",
    "Prompt outputs failed validation",
    "prompt: RuntimeError: CUDA error: out of memory",
    "Do it only if you get the file from a trusted source. WeightsUnpickler error: Unsupported operand 60",
    "Fixup failed: CUDA error: out of memory",
    "gpu 0 has 3",
    "exitcode 137",
    "exit_code 137",
    "  - Value not in list: ckpt_name: 'odd.safetensors' not in []",
    "- **Exception Message:** CUDA error: out of memory",
    "Exit code: 137",
    "Arguments: ('!!! Exception during processing !!! CUDA error: out of memory',)",
    "  [Hint: 'CUBLAS_STATUS_NOT_INITIALIZED'.  The library was not initialized. ] (at /odd/helper.h:98)",
    '{"node_errors": {"4": {"errors": [], "class_type": "Odd"}}, "inputs": 1}',
]


@pytest.mark.parametrize("line", TALK)
def test_talk_is_no_failure(line: str) -> None:
    assert is_talk(line.encode())
    log = Log()
    log.say(line + "\n")
    log.end()
    assert not log.incidents


@pytest.mark.parametrize("line", REPORTS)
def test_a_report_is_no_talk(line: str) -> None:
    assert not is_talk(line.encode())
