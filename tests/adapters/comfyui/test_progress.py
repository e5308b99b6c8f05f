"""How long nodes took, as the frames that a server sends to everybody tell it; never more than is known."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gpuwatch.adapters.comfyui.progress import Progress
from tests.adapters.comfyui.beside import submit, watched
from tests.standin.comfyui import VERSIONS, ComfyUI
from tests.standin.prompts import workflow
from tests.standin.server import standing

AT = datetime(2026, 11, 21, tzinfo=UTC)
PROMPT = {"1": {"class_type": "EmptyImage"}, "2": {"class_type": "KSampler"}, "3": {"class_type": "KSampler"}, "4": 5}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.progress = Progress("s", lambda: AT, lambda: self.now)
        self.progress.listening(busy=False)

    def at(self, seconds: float, job: str = "j", **states: str) -> Clock:
        """A frame: by node, what it does; `_2` is node 2."""
        self.now = seconds
        nodes = {
            name[1:]: {"value": 0.0, "max": 1.0, "state": state, "node_id": name[1:], "real_node_id": name[1:]}
            for name, state in states.items()
        }
        self.progress.hear({"prompt_id": job, "nodes": nodes})
        return self


def test_each_node_runs_from_its_first_frame_to_the_one_that_says_it_is_over() -> None:
    clock = Clock().at(0, _1="running").at(1, _1="finished", _2="running").at(2, _1="finished", _2="running")
    clock.at(4, _1="finished", _2="finished", _3="running").at(9, _3="finished").at(20, _3="finished")
    assert clock.progress.seconds_of("j", PROMPT) == {"EmptyImage": 1.0, "KSampler": 8.0}
    assert clock.progress.seconds_of("j", PROMPT) == {}, "asked for once"


def test_what_is_not_known_is_absent() -> None:
    clock = Clock().at(0, _1="finished").at(1, _2="running").at(2, _9="running").at(3, _9="finished")
    assert clock.progress.seconds_of("j", PROMPT) == {}, "cached, failed, of no known type"
    assert clock.progress.seconds_of("another", PROMPT) == {}
    clock.progress.listening(busy=True)
    clock.at(10, _1="running").at(11, _1="finished", _2="running").at(15, _2="finished")
    assert clock.progress.seconds_of("j", PROMPT) == {"KSampler": 4.0}, "node 1 ran before we listened"
    clock.progress.listening(busy=True)
    clock.progress.idle()
    clock.at(20, _1="running").at(21, _1="finished")
    assert clock.progress.seconds_of("j", PROMPT) == {"EmptyImage": 1.0}


@pytest.mark.parametrize(
    "data",
    [None, [], "x", {}, {"prompt_id": 1}, {"prompt_id": "j", "nodes": []}, {"prompt_id": "j", "nodes": {"1": 2}},
     {"prompt_id": {}, "nodes": {"1": {"state": "running"}}}, {"prompt_id": "j", "nodes": {"1": {"state": ["running"]}}}],
)  # fmt: skip
def test_a_frame_of_another_shape_tells_nothing(data: Any) -> None:
    clock = Clock()
    clock.progress.hear(data)
    assert clock.progress.seconds_of("j", PROMPT) == {}


def test_it_is_bounded() -> None:
    clock = Clock()
    for job in range(100):
        clock.at(job, f"job-{job}", **{f"_{node}": "running" for node in range(50)})
    clock.at(200, "large", **{f"_{node}": "running" for node in range(5000)})
    assert len(clock.progress._jobs) <= 16
    assert len(clock.progress._jobs["large"].began) <= 2000


@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_that_ended_tells_its_wait_its_nodes_and_what_kind_it_was(version: str) -> None:
    comfyui = ComfyUI(version)
    with standing(comfyui) as standin, watched(standin) as beside:
        comfyui.gate.clear()
        first = submit(standin, workflow(256))
        beside.until(lambda: beside.snapshot.progress)
        second = submit(standin, workflow(512))
        comfyui.gate.set()
        beside.until(lambda: {job.job_id for job in beside.jobs()} == {first, second})
        ended = {job.job_id: job for job in beside.jobs()}
        assert set(ended[first].node_seconds) == {"DDColor_Colorize"}
        assert ended[first].node_seconds["DDColor_Colorize"] > 0
        assert {job.workload for job in ended.values()} == {"ddcolor"}
        waits = [ended[id_].waited_seconds for id_ in (first, second)]
        assert (waits == [None, None]) is (version == "0.3.64"), "older servers do not say when it was queued"
        tallies = beside.snapshot.tallies
        assert set(tallies.nodes) == {"DDColor_Colorize"}
        assert bool(tallies.waits) is (version != "0.3.64")
        assert {key[1:] for key in tallies.jobs} == {("ddcolor", "success")}


def test_a_submitters_own_prompt_tells_nobody_else_of_its_nodes() -> None:
    with standing() as standin, watched(standin) as beside:
        id_ = submit(standin, workflow(256), client_id="browser")
        beside.until(lambda: [job for job in beside.jobs() if job.job_id == id_])
        assert beside.jobs()[0].node_seconds == {}
