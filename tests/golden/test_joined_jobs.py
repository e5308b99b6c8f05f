"""The recorded failures together with what the server's history tells of their jobs: what an expert would say first."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.engine import Engine
from gpuwatch.core.events import IncidentChanged
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import JobEnded, LogChunk
from gpuwatch.texts import render

RECORDINGS = Path(__file__).parent.parent / "data" / "recordings"
AT = datetime(2026, 11, 21, tzinfo=UTC)
MESSAGE = re.compile(rb"!!! Exception during processing !!! ([^\n]+)")


def incidents(name: str, inputs: dict[str, Any]) -> list[Incident]:
    """The recording's failures, each joined with a job of these inputs."""
    log = (RECORDINGS / f"{name}.log").read_bytes()
    engine = Engine(load_rules(), load_workloads())
    events = [*engine.feed(LogChunk(AT, "log", log)), *engine.end(AT)]
    for number, message in enumerate(MESSAGE.findall(log)):
        job = JobEnded(
            AT, "127.0.0.1:8188", f"job-{number}", "error", "2", "DDColor_Colorize", "torch.OutOfMemoryError",
            message.decode(), inputs,
        )  # fmt: skip
        events += engine.feed(job)
    found = {event.incident.id: event.incident for event in events if isinstance(event, IncidentChanged)}
    return list(found.values())


def test_where_the_job_would_fit_what_holds_the_memory_is_freed_first() -> None:
    found = incidents("comfyui-0.24.0-oom-stderr", {"model_input_size": 1024, "checkpoint": "ddcolor_paper_tiny.pth"})
    assert len(found) == 4
    for incident in found:
        assert incident.diagnosis is not None
        assert "which this card has" in render(incident.diagnosis.cause)
        first = incident.diagnosis.fixes[0]
        assert (first.action, first.predicted and first.predicted.fits) == ("free_memory", "yes")
        if incident.facts:
            assert re.search(r"up to 2\.\d\d GiB", render(first.title))


def test_where_the_card_is_too_small_a_size_that_fits_and_the_exact_rewrite_are_named() -> None:
    inputs = {"model_input_size": 1280, "checkpoint": "ddcolor_modelscope.pth"}
    found = incidents("comfyui-0.24.0-oom_large_1280-stderr", inputs)
    assert len(found) == 4
    for incident in found:
        assert incident.diagnosis is not None
        size, rewrite = incident.diagnosis.fixes[:2]
        assert (size.action, rewrite.action) == ("shrink_size", "switch_node")
        assert 1024 <= size.params["to"] < 1280
        for fix in (size, rewrite):
            assert fix.predicted is not None
            assert fix.predicted.fits == "yes"
            assert fix.predicted.peak_bytes <= round(5.79 * 2**30)
        assert incident.diagnosis.confidence == pytest.approx(0.9 if incident.facts else 0.75)
