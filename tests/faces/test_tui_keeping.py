"""A server that is restarted forgets its queue: the screen kept it, says so, and queues it again when a person wants that."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from gpuwatch.faces.tui.app import WatchApp
from tests.faces.tui_play import explained, play, screen, until
from tests.faces.tui_served import PATIENCE_SECONDS, detail, failed, watching
from tests.standin.prompts import faulty, workflow
from tests.standin.server import Standin

pytestmark = pytest.mark.usefixtures("own_state")


def waits(app: WatchApp) -> int:
    return sum(app.keeping.count(name) for name in app.snapshot.sources)


def test_what_waited_is_queued_again_after_the_restart_in_its_order(standin: Standin) -> None:
    comfyui = standin.comfyui

    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.snapshot.queues, "the server")
        comfyui.gate.clear()
        secret = {"api_key_comfy_org": "opensecret"}
        broken = comfyui.submit({"prompt": faulty("illegal")})[1]["prompt_id"]
        waiting = [
            comfyui.submit({"prompt": workflow(side), "extra_data": secret})[1]["prompt_id"] for side in (256, 320, 384)
        ]
        await until(pilot, lambda: waits(app) == 3, "that they are kept")
        comfyui.gate.set()
        await until(pilot, lambda: "forgets: 3" in detail(app), "what a restart would forget")
        assert "Q queues them again afterwards" in " ".join(detail(app).split())
        await pilot.press("a")
        await until(pilot, lambda: "Restart it, then press a again." in " ".join(detail(app).split()), "what helps")
        assert "forgets: 3" in detail(app)
        comfyui.gate.clear()
        standin.restart()
        await until(pilot, lambda: "restarted: 3" in screen(app), "that they are lost")
        assert comfyui.pending == []
        assert "computes nothing any more" not in detail(app)
        await pilot.press("Q")
        await until(pilot, lambda: "Q again does it" in screen(app), "the question")
        assert comfyui.pending == []
        assert comfyui.running is None
        while app.keeping.lost() is not None:
            await pilot.press("Q")
            await pilot.pause(0.5)
        await until(pilot, lambda: "Jobs queued again on" in screen(app), "that they are queued")
        comfyui.gate.set()
        with comfyui.changed:
            assert comfyui.changed.wait_for(lambda: len(comfyui.history) == 3, PATIENCE_SECONDS)
        assert comfyui.executed == [broken, *waiting], "the one that ran is left out"
        assert all(entry["prompt"][3]["api_key_comfy_org"] == "opensecret" for entry in comfyui.history.values())
        assert "opensecret" not in screen(app)
        await pilot.press("Q")
        await until(pilot, lambda: "No job is known" in screen(app), "that nothing is left")

    play(watching(standin), scene, size=(140, 44))


def test_a_screen_that_only_shows_keeps_and_queues_nothing(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.snapshot.queues, "the server")
        standin.comfyui.gate.clear()
        for side in (256, 320):
            standin.comfyui.submit({"prompt": workflow(side)})
        await until(pilot, lambda: any(queue.pending for queue in app.snapshot.queues.values()), "the queue")
        await pilot.press("Q")
        await until(pilot, lambda: "This screen only shows" in screen(app), "that it only shows")
        assert app.keeping.lost() is None
        assert waits(app) == 0
        standin.comfyui.gate.set()

    play(watching(standin, read_only=True), scene)


def test_what_fails_meanwhile_does_not_take_the_place_of_the_job_that_is_mended(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await failed(app, pilot, standin, workflow(1280))
        mended = explained(app).id
        await pilot.press("a")
        await until(pilot, lambda: "Queue the job again like this?" in detail(app), "the plan")
        standin.comfyui.submit({"prompt": faulty("something else")})
        await until(pilot, lambda: len(app.snapshot.incidents) == 2, "another failure")
        await pilot.pause()
        assert explained(app).id == mended
        await until(pilot, lambda: "again: queue it in front" in screen(app), "the question")
        await pilot.press("a")
        await until(pilot, lambda: "It held: job" in detail(app), "that it held")
        assert explained(app).id == mended, "an older failure that is unsolved does not push it away"
        standin.comfyui.submit({"prompt": faulty("a third thing")})
        await until(pilot, lambda: explained(app).id != mended, "the next failure, once that is over")
        assert "a third thing" in detail(app)

    play(watching(standin), scene, size=(140, 44))


def test_jobs_that_failed_alike_are_mended_together_where_the_plan_is_theirs(standin: Standin) -> None:
    async def scene(app: WatchApp, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: app.snapshot.queues, "the server")
        sides = (1280, 1280, 1536, 1280)
        jobs = [standin.comfyui.submit({"prompt": workflow(side)})[1]["prompt_id"] for side in sides]
        await until(
            pilot,
            lambda: sum(each.job_id is not None for each in app.snapshot.incidents.values()) == 4,
            "four failures",
        )
        assert [row.count for row in app.choice.listed(app.snapshot)] == [4]
        await pilot.press("A")
        await until(pilot, lambda: "queue 3 more that failed alike" in screen(app), "what the key does")
        assert standin.comfyui.executed == jobs, "nothing is queued before it is agreed to"
        await pilot.press("A")
        await until(pilot, lambda: list(outcomes(app).values()).count("held") == 3, "that three held")
        assert [outcomes(app)[job] for job in jobs] == ["held", "held", None, "held"], "another size has another plan"
        assert "Jobs queued with this plan: 3; in need of another: 1" in screen(app)
        history = standin.comfyui.history
        sizes = [history[id_]["prompt"][2]["3"]["inputs"]["model_input_size"] for id_ in standin.comfyui.executed[4:]]
        assert len(sizes) == 3
        assert len(set(sizes)) == 1
        assert app.snapshot.tallies.fixes[("shrink_size", "held")] == 3

    def outcomes(app: WatchApp) -> dict[str | None, str | None]:
        return {
            each.job_id: each.fix_outcome
            for each in app.snapshot.incidents.values()
            if each.job_id in standin.comfyui.executed[:4]
        }

    play(watching(standin), scene, size=(140, 44))
