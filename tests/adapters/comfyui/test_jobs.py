"""Which jobs ended: each told once, whatever the server's list does meanwhile."""

from __future__ import annotations

import json
from contextlib import closing

from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.comfyui.client import Client
from gpuwatch.adapters.comfyui.jobs import JobFeed
from tests.standin.server import standing


def page(*ids: str) -> bytes:
    """A page of ended jobs with more behind it; the stand-in gives it again for every page that is asked for."""
    jobs = [{"id": id_, "status": "completed", "execution_end_time": number} for number, id_ in enumerate(ids)]
    return json.dumps({"jobs": jobs, "pagination": {"has_more": True}}).encode()


def test_a_job_that_two_pages_hold_is_told_once() -> None:
    with standing() as standin, closing(Client(server_of(standin.url))) as client:
        feed = JobFeed(client)
        standin.hazards.raw["/api/jobs"] = page("a")
        assert [(ended.job_id, fresh) for ended, fresh in feed.take()] == [("a", False)]
        standin.hazards.raw["/api/jobs"] = page("a", "b", "c")
        assert [(ended.job_id, fresh) for ended, fresh in feed.take()] == [("b", True), ("c", True)]
        assert feed.take() == []
