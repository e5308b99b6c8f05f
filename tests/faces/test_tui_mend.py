"""A failed job mended from the screen: planned, agreed to with the same key, queued on the server, and its end told to all."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from textual.pilot import Pilot

from gpuwatch.adapters.clock import utc_now
from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import FixTried
from gpuwatch.faces.tui.app import WatchApp
from tests.core.loop.test_next_try import OURS
from tests.faces.tui_play import explained, play, screen, two_failures, until
from tests.faces.tui_served import detail, failed, watching
from tests.faces.tui_story import FAILURES, log, watch
from tests.standin.failing import GIB
from tests.standin.prompts import faulty, workflow
from tests.standin.server import Standin

pytestmark = pytest.mark.usefixtures("own_state")


async def asked(app: WatchApp, pilot: Pilot[None]) -> None:
    await pilot.press("a")
    await until(pilot, lambda: "again: queue it in front" in screen(app), "the question")


def test_the_same_key_twice_queues_what_fits_and_tells_that_it_held(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        job = await failed(app, pilot, standin, workflow(1280))
        await asked(app, pilot)
        assert "DDColor_Colorize  #3" in detail(app)
        assert "model_input_size  1280  →  " in detail(app)
        assert "of 5.79 GiB" in detail(app)
        assert "━" in detail(app)
        assert standin.comfyui.executed == [job], "nothing is queued before it is agreed to"
        incident = explained(app)
        await pilot.press("a")
        await until(pilot, lambda: "It held: job" in screen(app), "that it held")
        await until(pilot, lambda: app.snapshot.incidents[incident.id].fix_outcome == "held", "the outcome")
        (_, again) = standin.comfyui.executed
        assert f"queued as {again}" in detail(app)
        assert app.snapshot.tallies.fixes == {("shrink_size", "applied"): 1, ("shrink_size", "held"): 1}
        size = standin.comfyui.history[again]["prompt"][2]["3"]["inputs"]["model_input_size"]
        assert 512 < size < 1280
        await pilot.press("l")
        await until(pilot, lambda: f"已排入队列：{again}" in detail(app), "Chinese")

    play(watching(standin), scene, size=(160, 50))


def test_what_held_is_said_and_only_another_way_is_offered(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await failed(app, pilot, standin, workflow(1280))
        await asked(app, pilot)
        await pilot.press("a")
        await until(pilot, lambda: "It held: job" in screen(app), "that it held")
        await until(pilot, lambda: explained(app).fix_outcome == "held", "the outcome")
        await pilot.press("a")
        await until(pilot, lambda: "There is no other way" in detail(app), "that nothing is left")
        assert re.search(r"✓ It held at \d\d:\d\d:\d\d: model_input_size 1280 → \d+", detail(app))
        assert "again: queue it" not in screen(app)
        await pilot.press("escape")
        await until(pilot, lambda: "no other way" not in detail(app), "that it is left")
        assert "✓ It held at" in detail(app), "it is said without being asked, too"
        assert len(standin.comfyui.executed) == 2
        comfyui = standin.comfyui
        comfyui.recorded = {**comfyui.recorded, "object_info": {**comfyui.recorded["object_info"], **OURS}}
        await asked(app, pilot)
        assert "class_type  DDColor_Colorize  →  GpuwatchDDColor" in detail(app)
        assert "✓ It held at" in detail(app)

    play(watching(standin), scene, size=(160, 50))


def test_what_held_before_this_run_or_in_another_is_said(standin: Standin) -> None:
    asked_for = []

    def recall(incident: Incident) -> FixTried | None:
        asked_for.append(incident.job_id)
        return replace(held, failed_job_id=incident.job_id)

    held = FixTried(datetime(2026, 6, 1, tzinfo=UTC), "old", "shrink_size", "held", after={"model_input_size": 960})

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        nonlocal held
        job = await failed(app, pilot, standin, workflow(1280))
        held = replace(held, server=explained(app).source)
        await pilot.press("a")
        await until(pilot, lambda: "There is no other way" in detail(app), "that nothing is left")
        assert "06-01" in detail(app)
        assert ": model_input_size 960" in detail(app)
        assert asked_for == [job]
        await pilot.press("escape")
        freed = FixTried(utc_now(), "elsewhere", "free_memory", "held", explained(app).source, failed_job_id=job)
        app.pipeline.emit(freed)
        await until(pilot, lambda: "memory was freed first" in detail(app), "what another gpuwatch did")

    play(watching(standin, recall=recall), scene, size=(160, 50))


def test_one_that_fails_again_says_so(standin: Standin) -> None:
    standin.comfyui.needs_bytes = lambda _side, _checkpoint: 99.0 * GIB  # type: ignore[method-assign]  # nothing ever fits

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await failed(app, pilot, standin, workflow(1280))
        await pilot.press("d")  # the second failure does not take the first one's place on the screen
        await asked(app, pilot)
        incident = explained(app)
        await pilot.press("a")
        await until(pilot, lambda: "It failed again:" in detail(app), "that it failed")
        await until(pilot, lambda: app.snapshot.incidents[incident.id].fix_outcome == "failed", "the outcome")

    play(watching(standin), scene, size=(160, 50))


def test_escape_leaves_it_and_a_hidden_plan_is_not_agreed_to(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        job = await failed(app, pilot, standin, workflow(1280))
        await asked(app, pilot)
        await pilot.press("escape")
        assert "again: queue it" not in detail(app)
        await asked(app, pilot)
        await pilot.press("J", "a")
        assert app.body.page == "home"
        await until(pilot, lambda: "again: queue it in front" in screen(app), "the question again")
        assert standin.comfyui.executed == [job]
        assert explained(app).fix_outcome is None

    play(watching(standin), scene, size=(100, 24))


def test_what_cannot_be_mended_is_one_line(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await failed(app, pilot, standin, workflow(1280))
        standin.comfyui.history.clear()
        await pilot.press("a")
        await until(pilot, lambda: "is neither in" in detail(app), "that the job is gone")
        standin.down()
        await pilot.press("a")
        await until(
            pilot, lambda: "neither" not in detail(app) and "asking" not in detail(app), "that the server is away"
        )
        mend = app.mends.of(explained(app).id)
        assert mend is not None
        assert mend.stage == "refused"
        assert "again: queue it" not in detail(app)

    play(watching(standin), scene)


def test_a_failure_that_is_not_about_memory_is_refused(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await failed(app, pilot, standin, faulty("the node is missing its model"))
        await pilot.press("a")
        await until(pilot, lambda: "The failure is not about" in detail(app), "why not")
        assert "Nothing is queued" in detail(app)
        assert "Do what helps, then queue the job again in ComfyUI." in " ".join(detail(app).split())

    play(watching(standin), scene)


def test_nothing_is_queued_where_only_a_restart_helps(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        job = await failed(app, pilot, standin, workflow(1280))
        await pilot.press("d")  # what comes next does not take its place on the screen
        await asked(app, pilot)
        standin.comfyui.submit({"prompt": faulty("illegal")})
        await until(pilot, lambda: len(app.snapshot.incidents) == 2, "the illegal access")
        await until(pilot, lambda: "✖ needs a restart" in app.health.shown, "what the server needs")
        await pilot.press("J")
        await until(
            pilot, lambda: "✖ computes nothing until it is restarted: A GPU kernel" in screen(app), "on the page"
        )
        await pilot.press("H", "a")
        await until(pilot, lambda: "computes nothing any more" in detail(app), "why not")
        assert "Restart it, then press a again." in detail(app)
        assert app.snapshot.incidents[explained(app).id].fix_outcome is None
        assert len(standin.comfyui.executed) == 2, "the first and the illegal one"
        assert job in standin.comfyui.executed
        await pilot.press("a")
        assert "again: queue it" not in detail(app)
        await until(pilot, lambda: app.mends.keeps(explained(app)), "that the job is kept")
        standin.restart()
        await until(pilot, lambda: not any(each.active for each in app.snapshot.incidents.values()), "another process")
        await until(pilot, lambda: "needs a restart" not in app.health.shown, "that it is well")
        await asked(app, pilot)
        assert "model_input_size  1280  →  " in detail(app), "the server forgot the job, and it was kept here"
        assert standin.comfyui.history == {}

    play(watching(standin), scene, size=(160, 50))


NO_SPACE = "[Errno 28] No space left on device: '/data/output/colorized_00001_.png'"


def test_a_job_is_queued_again_as_it_was_after_its_cause_was_mended(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        standin.comfyui.faults["SaveImage"] = NO_SPACE
        job = await failed(app, pilot, standin, workflow(256))
        await until(pilot, lambda: "queues the job again as it was" in detail(app), "what the key does")
        await asked(app, pilot)
        told = " ".join(detail(app).split())
        assert "Queue the job again as it was?" in told
        assert "First: Free space on the disk of /data/output. $ df -h /data/output" in told
        assert "until that is done it fails again" in told
        incident = explained(app)
        await pilot.press("a")
        await until(pilot, lambda: app.snapshot.incidents[incident.id].fix_outcome == "failed", "that it failed again")
        await until(pilot, lambda: len(app.snapshot.incidents) == 2, "the second failure")
        standin.comfyui.faults.clear()
        app.choice.take(app.snapshot, incident.id)
        await asked(app, pilot)
        await pilot.press("a")
        await until(pilot, lambda: "It held: job" in detail(app), "that it held")
        await until(pilot, lambda: app.snapshot.incidents[incident.id].fix_outcome == "held", "the outcome")
        assert app.snapshot.tallies.fixes[("queue_again", "held")] == 1
        history = standin.comfyui.history
        assert [history[id_]["prompt"][2] for id_ in standin.comfyui.executed] == [workflow(256)] * 3
        assert standin.comfyui.executed[0] == job
        await pilot.press("a")
        await until(pilot, lambda: "There is nothing left to mend." in detail(app), "that it is over")
        assert re.search(r"✓ It held at \d\d:\d\d:\d\d: queued again as it was", detail(app))

    play(watching(standin), scene, size=(160, 50))


def test_the_job_that_broke_the_server_is_queued_again_after_the_restart(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await failed(app, pilot, standin, faulty("illegal"))
        await pilot.press("a")
        await until(pilot, lambda: "Restart it, then press a again." in detail(app), "why nothing is queued")
        await until(pilot, lambda: app.mends.keeps(explained(app)), "that the job is kept")
        standin.restart()
        await until(pilot, lambda: not any(each.active for each in app.snapshot.incidents.values()), "another process")
        await asked(app, pilot)
        assert "ComfyUI was restarted since" in " ".join(detail(app).split())
        incident = explained(app)
        await pilot.press("a")
        await until(pilot, lambda: app.snapshot.incidents[incident.id].fix_outcome == "failed", "what became of it")

    play(watching(standin), scene, size=(160, 50))


def test_a_plan_below_the_edge_is_read_before_it_is_agreed_to(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        job = await failed(app, pilot, standin, workflow(1280))
        await pilot.press("a")
        await until(pilot, lambda: "more lines ↓" in app.body.detail.heading.shown, "what is hidden")
        assert "again: queue it" not in detail(app)
        for _ in range(20):
            if not app.body.detail.question(app.mends.of(explained(app).id)).hidden_rows:
                break
            await pilot.press("a")
            await pilot.pause()
        await until(pilot, lambda: "again: queue it" in app.body.detail.heading.shown, "the question")
        assert standin.comfyui.executed == [job], "to see the rest is not to agree"
        await pilot.press("a")
        await until(pilot, lambda: len(standin.comfyui.executed) == 2, "the job again")

    play(watching(standin), scene, size=(44, 12))


def test_without_a_server_it_says_what_makes_it_possible() -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await pilot.press("a")
        await two_failures(app, pilot)
        await pilot.press("a")
        await until(pilot, lambda: "gpuwatch watch http://127.0.0.1:8188" in screen(app), "the hint")
        assert app.mends.of(explained(app).id) is None

    play(watch(log(FAILURES)), scene)


def test_the_node_is_not_said_to_run_once_nothing_runs(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        standin.comfyui.gate.clear()
        await until(pilot, lambda: app.snapshot.queues, "the server")
        standin.comfyui.submit({"prompt": workflow(256)})
        await until(pilot, lambda: "node 3 0/1" in app.health.shown, "the node that runs")
        standin.comfyui.gate.set()
        await until(pilot, lambda: "0 running, 0 waiting" in app.health.shown, "the empty queue")
        await until(pilot, lambda: "node 3" not in app.health.shown, "that nothing runs")

    play(watching(standin), scene, size=(200, 40))
