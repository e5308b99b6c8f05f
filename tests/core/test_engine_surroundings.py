"""What stands around a failure reaches its diagnosis: the job, what was tried, the machine, the workload."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.learned.reading import ran_of
from gpuwatch.core.observations import FixTried, HostSample, JobEnded, LogChunk, ServerSeen
from gpuwatch.core.workflow.graph import read_workflow
from gpuwatch.core.workloads import Profiles, Workloads
from tests.core.engine_log import AT, DONE, NATIVE, READY, RULES, Log, block
from tests.standin.prompts import painting, workflow


@pytest.mark.parametrize("job_first", [True, False])
def test_a_failed_job_tells_the_node_and_its_inputs(job_first: bool) -> None:
    job = JobEnded(
        AT, "127.0.0.1:8188", "job-1", "error", "3", "DDColor_Colorize", "torch.OutOfMemoryError", NATIVE,
        {"model_input_size": 1536, "checkpoint": "ddcolor_modelscope.pth"},
    )  # fmt: skip
    log = Log()
    if job_first:
        log.take(log.engine.feed(job))
    log.say(block(NATIVE) + DONE)
    if not job_first:
        log.take(log.engine.feed(job))
    assert (log.only.node.id, log.only.node.type, log.only.job_id) == ("3", "DDColor_Colorize", "job-1")
    assert log.only.diagnosis is not None
    assert log.only.diagnosis.confidence == 0.75  # words, sizes and job; no step of the network asks for just that


def test_a_job_that_failed_in_another_hour_is_not_this_one() -> None:
    log = Log()
    log.take(log.engine.feed(JobEnded(AT - timedelta(hours=1), "s", "old", "error", "3", "X", None, NATIVE)))
    log.say(block(NATIVE) + DONE)
    assert log.only.job_id is None


def test_a_fix_that_failed_and_the_machines_memory_reach_the_diagnosis() -> None:
    job = JobEnded(
        AT, "127.0.0.1:8188", "job-1", "error", "3", "DDColor_Colorize", "torch.OutOfMemoryError", NATIVE,
        {"model_input_size": 512, "checkpoint": "ddcolor_paper_tiny.pth"},
    )  # fmt: skip
    failed = FixTried(AT, "earlier", "free_memory", "failed", "127.0.0.1:8188", "DDColor_Colorize")
    first: list[str] = []
    for told in ((), (failed,)):
        log = Log()
        log.take(log.engine.feed(ServerSeen(AT, "127.0.0.1:8188")))
        for each in told:
            log.take(log.engine.feed(each))
        log.take(log.engine.feed(job))
        log.say(block(NATIVE) + DONE)
        assert log.only.diagnosis is not None
        first.append(log.only.diagnosis.fixes[0].action)
    assert first == ["free_memory", "shrink_size"]
    log = Log()
    log.take(log.engine.feed(HostSample(AT, 32 << 30, 1 << 30, 0)))
    log.say("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2147483648 bytes.\n" + DONE)
    assert log.only.diagnosis is not None
    assert "1.00 GiB of 32.00 GiB was available" in str(log.only.diagnosis.cause)


@pytest.mark.parametrize(
    ("node_type", "inputs", "prompt", "tokens"),
    [
        (None, {}, workflow(512), 32 * 32),
        ("DDColor_Colorize", {"model_input_size": 520}, None, 33 * 33),
        ("DDColor_Colorize", {"model_input_size": ["7", 0]}, None, None),
        ("DDColor_Colorize", {"model_input_size": float("nan")}, None, None),
        ("DDColor_Colorize", {"model_input_size": True}, None, None),
        ("KSampler", {"model_input_size": 512}, None, None),
        (None, {}, painting(512, 512), None),
        (None, {}, workflow(64), None),
    ],
    ids=["from the workflow", "from the failed node", "a link", "no number", "no size", "another node", "another workload",
         "another node is larger"],
)  # fmt: skip
def test_a_job_s_compute_tokens_are_those_of_its_network(
    node_type: str | None, inputs: dict[str, Any], prompt: dict[str, Any] | None, tokens: int | None
) -> None:
    ran = ran_of(read_workflow(prompt)) if prompt is not None else None
    log = Log()
    log.take(log.engine.feed(JobEnded(AT, "s", "job", "success", node_type=node_type, inputs=inputs, ran=ran)))
    (ended,) = (event for event in log.events if isinstance(event, JobEnded))
    assert ended.tokens_per_image == tokens


def test_workloads_are_read_for_the_first_failure_of_a_node_or_before_it_where_there_is_time() -> None:
    reads: list[str] = []

    def read() -> Profiles:
        reads.append("read")
        return load_workloads().profiles, ()

    calm = Engine(RULES, Workloads(read), ready=READY)
    calm.feed(LogChunk(AT, "log", b"got prompt\nPrompt executed in 1.00 seconds\n"))
    assert calm.workloads.find(None, None) is None
    assert not reads
    calm.prepare()
    calm.prepare()
    assert reads == ["read"]
