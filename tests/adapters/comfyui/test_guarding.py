"""What the guard does with jobs that end, beside a server that answers as ComfyUI does. Nothing here waits for time."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.comfyui.ended import OF_BATCH
from gpuwatch.adapters.comfyui.mending import Mender, Proposal
from gpuwatch.adapters.tried_file import TriedFile
from gpuwatch.core.workflow.graph import read_workflow
from gpuwatch.texts import plain, render
from tests.adapters.comfyui.guarded import PATIENCE_SECONDS, SECRETS, guarded, matcher, workloads
from tests.standin import comfyui as standins
from tests.standin.comfyui import VERSIONS, ComfyUI
from tests.standin.failing import GIB, Card
from tests.standin.prompts import LARGE, faulty, workflow
from tests.workflows import DATA, as_prompt, knowledge, told_knowledge


@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_that_ran_out_of_memory_is_queued_as_it_fits_and_holds(version: str) -> None:
    with guarded(ComfyUI(version)) as scene:
        failed = scene.run(
            client_id="browser", extra_data={"extra_pnginfo": {"mine": 1}, **SECRETS, "client_id": "browser"}
        )
        scene.guard.heard(failed, "error")
        scene.follow()
        assert scene.events == ["requeued", "held"]
        first = scene.notes[0].fields
        (change,) = first["changes"]
        assert (change["node_id"], change["class_type"], change["input"], change["from"]) == (
            "3",
            "DDColor_Colorize",
            "model_input_size",
            1280,
        )
        assert first["predicted"]["fits"] == "yes"
        item = scene.standin.comfyui.history[first["new_job"]]["prompt"]
        assert item[0] < 0, "queued in front"
        assert {name: item[3][name] for name in ("client_id", "extra_pnginfo", *SECRETS)} == {
            "client_id": "browser",
            "extra_pnginfo": {"mine": 1},
            **SECRETS,
        }
        assert [(each.action, each.outcome) for each in scene.told] == [
            ("shrink_size", "applied"),
            ("shrink_size", "held"),
        ]
        assert scene.told[1].incident_id == f"incident-{failed[:4]}"
        assert scene.told[1].job_id == first["new_job"]
        assert not any(secret in repr(scene.notes) + repr(scene.told) for secret in SECRETS.values())


def test_a_prediction_that_is_wrong_is_stepped_down_from_and_then_given_up() -> None:
    with guarded(most_tries=3) as scene:
        scene.standin.comfyui.needs_bytes = lambda _side, _checkpoint: 99.0 * GIB  # type: ignore[method-assign]  # nothing ever fits
        scene.guard.heard(scene.run(), "error")
        scene.follow()
        assert scene.events == ["requeued", "failed"] * 3 + ["gave_up"]
        assert "3" in render(scene.notes[-1].words)
        queued = [note.fields["new_job"] for note in scene.notes if note.event == "requeued"]
        tried = [
            (note.fields["action"], json.dumps(note.fields["changes"]))
            for note in scene.notes
            if note.event == "requeued"
        ]
        assert len(set(tried)) == 3
        sides = [scene.prompt_of(id_)["3"]["inputs"]["model_input_size"] for id_ in queued]
        assert sides == sorted(sides, reverse=True)
        assert len(scene.standin.comfyui.executed) == 4
        assert [each.outcome for each in scene.told] == ["applied", "failed"] * 3
        scene.guard.look()
        assert len(scene.standin.comfyui.executed) == 4


def test_what_failed_here_is_not_tried_first_the_next_time(tmp_path: Path) -> None:
    with guarded(folder=tmp_path, most_tries=1) as scene:
        scene.standin.comfyui.needs_bytes = lambda _side, _checkpoint: 99.0 * GIB  # type: ignore[method-assign]
        scene.guard.heard(scene.run(), "error")
        scene.follow()
        first = scene.notes[0].fields["changes"][0]["to"]
        again = Mender(scene.mender.hands, matcher(), workloads(), knowledge(), memory=TriedFile(tmp_path))
        proposal = again.propose(scene.mender.hands.failed_job(scene.run()))
        assert isinstance(proposal, Proposal)
        assert dict(proposal.retry.after)["model_input_size"] < first
        assert "sesame" not in (tmp_path / "tried.json").read_text()


def test_a_job_that_did_not_run_out_of_memory_is_left_alone() -> None:
    with guarded() as scene:
        failed = scene.run(prompt=faulty("shapes do not match"))
        scene.guard.heard(failed, "error")
        assert scene.events == ["left_alone"]
        assert "shapes do not match" in render(scene.notes[0].words)
        scene.guard.heard(scene.run(256), "success")
        assert scene.events == ["left_alone"]
        assert len(scene.standin.comfyui.executed) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_photo_of_a_batch_is_left_to_the_batch(version: str) -> None:
    with guarded(ComfyUI(version)) as scene:
        queued = scene.mender.hands.queue(workflow(1280), {OF_BATCH: True})
        scene.guard.heard(scene.ended(queued.id), "error")
        assert scene.events == ["left_alone"]
        assert "gpuwatch submit" in render(scene.notes[0].words)
        assert len(scene.standin.comfyui.executed) == 1


def test_an_interrupted_job_is_not_touched_and_one_of_ours_is_not_queued_again() -> None:
    with guarded() as scene:
        comfyui = scene.standin.comfyui
        comfyui.gate.clear()
        _status, answer = comfyui.submit({"prompt": workflow()})
        with comfyui.changed:
            assert comfyui.changed.wait_for(lambda: comfyui.running is not None, PATIENCE_SECONDS)
        comfyui.stop_running(None)
        scene.guard.heard(scene.ended(answer["prompt_id"]), "interrupted")
        assert scene.events == []
        failed = scene.run()
        comfyui.gate.clear()
        scene.guard.heard(failed, "error")
        with comfyui.changed:
            assert comfyui.changed.wait_for(lambda: comfyui.running is not None, PATIENCE_SECONDS)
        comfyui.stop_running(None)
        scene.follow()
        assert scene.events == ["requeued", "left_alone"]
        assert [each.outcome for each in scene.told] == ["applied"]


def test_where_only_a_restart_helps_nothing_is_queued() -> None:
    with guarded() as scene:
        failed = scene.run()
        scene.broken = plain("The worker is dead.")
        scene.guard.heard(failed, "error")
        assert scene.events == ["restart_needed"]
        assert scene.standin.comfyui.remaining == 0


@pytest.mark.parametrize("takes_ids", [True, False])
@pytest.mark.parametrize("heard", [True, False])
def test_an_answer_that_is_lost_queues_nothing_twice(takes_ids: bool, heard: bool) -> None:
    with guarded(ComfyUI(takes_ids=takes_ids)) as scene:
        comfyui = scene.standin.comfyui
        failed = scene.run()
        scene.standin.hazards.lost.add("/prompt")
        scene.guard.heard(failed, "error")
        assert scene.events == ["unreachable"]
        (id_,) = set(comfyui.executed) - {failed} or {item[1] for item in [*comfyui.pending, comfyui.running] if item}
        scene.ended(id_)
        if heard:
            scene.guard.heard(id_, "success")
        for _ in range(8):
            scene.guard.look()
        assert scene.events == ["unreachable", "requeued", "held"]
        assert scene.notes[1].fields["new_job"] == id_
        assert comfyui.executed == [failed, id_]
        assert [each.outcome for each in scene.told] == ["applied", "held"]


def test_one_that_arrives_after_it_was_queued_again_is_taken_back() -> None:
    with guarded() as scene:
        comfyui = scene.standin.comfyui
        failed = scene.run()
        scene.standin.hazards.late = arrives = threading.Event()
        comfyui.gate.clear()
        scene.guard.heard(failed, "error")
        scene.standin.hazards.late = None
        for _ in range(5):
            scene.guard.look()
        assert scene.events == ["unreachable", "lost", "requeued"]
        with comfyui.changed:
            assert comfyui.changed.wait_for(lambda: comfyui.running, PATIENCE_SECONDS)
        arrives.set()
        with comfyui.changed:
            assert comfyui.changed.wait_for(lambda: comfyui.pending and comfyui.running, PATIENCE_SECONDS)
        scene.guard.look()
        assert scene.events[3:] == ["withdrawn"]
        comfyui.gate.set()
        scene.ended(scene.notes[2].fields["new_job"])
        scene.guard.look()
        assert comfyui.executed == [failed, scene.notes[2].fields["new_job"]]
        assert scene.events[4:] == ["held"]


def test_one_that_waits_behind_a_dead_worker_is_said_once() -> None:
    with guarded() as scene:
        failed = scene.run()
        scene.standin.comfyui.worker_alive = False
        scene.guard.heard(failed, "error")
        scene.broken = plain("The worker is dead.")
        for _ in range(5):
            scene.guard.look()
        assert scene.events == ["requeued", "restart_needed"]


def test_a_retry_that_a_restart_took_is_queued_again_and_one_that_was_deleted_is_not() -> None:
    with guarded() as scene:
        comfyui = scene.standin.comfyui
        failed = scene.run()
        comfyui.gate.clear()
        scene.guard.heard(failed, "error")
        scene.standin.down()
        scene.guard.look()
        comfyui.restart()
        scene.standin.up()
        comfyui.gate.set()
        for _ in range(5):
            scene.guard.look()
        assert scene.events == ["requeued", "lost", "requeued"]
        scene.follow()
        assert scene.events[-1] == "held"

        failed = scene.run()
        comfyui.worker_alive = False
        scene.guard.heard(failed, "error")
        comfyui.delete([], clear=True)
        comfyui.worker_alive = True
        for _ in range(6):
            scene.guard.look()
        assert scene.events[4:] == ["requeued", "left_alone"]
        assert scene.guard.idle


def test_a_server_that_is_away_or_errs_is_asked_again() -> None:
    with guarded() as scene:
        failed = scene.run()
        scene.standin.hazards.statuses[f"/history/{failed}"] = 500
        scene.guard.heard(failed, "error")
        scene.guard.work()
        assert scene.events == []
        scene.standin.hazards.statuses.clear()
        scene.standin.hazards.statuses["/prompt"] = 502
        scene.guard.work()
        assert scene.events == ["unreachable"]
        scene.standin.hazards.statuses.clear()
        for _ in range(5):
            scene.guard.look()
        scene.follow()
        assert scene.events[1:] == ["lost", "requeued", "held"]
        assert [each.outcome for each in scene.told] == ["applied", "held"]


def test_a_job_whose_prompt_is_gone_is_said() -> None:
    with guarded() as scene:
        scene.guard.heard("00000000-0000-0000-0000-000000000000", "error")
        for _ in range(6):
            scene.guard.work()
        assert scene.events == ["gone"]


def test_the_same_end_heard_twice_is_acted_on_once_and_an_id_that_comes_again_is_another_job() -> None:
    with guarded() as scene:
        failed = scene.run(prompt_id="00000000-0000-0000-0000-00000000aaaa")
        scene.guard.heard(failed, "error")
        scene.guard.heard(failed, "error")
        scene.follow()
        assert scene.events == ["requeued", "held"]


def test_memory_that_others_hold_is_freed_and_the_same_prompt_queued() -> None:
    with guarded(ComfyUI(card=Card(24 * GIB, held_bytes=20 * GIB))) as scene:
        error = scene.standin.comfyui.recorded["execution_error"]
        for before, after in (("5.10 GiB memory", "23.30 GiB memory"), ("4.37 GiB is", "22.40 GiB is")):
            assert before in error["exception_message"]
            error["exception_message"] = error["exception_message"].replace(before, after)
        failed = scene.run()
        scene.guard.heard(failed, "error")
        scene.follow()
        assert scene.events == ["requeued", "held"]
        assert ("POST", "/free") in scene.standin.asked
        assert scene.told[0].action == "free_memory"
        assert scene.prompt_of(scene.notes[0].fields["new_job"]) == workflow(1280)


def ours() -> dict[str, Any]:
    return {
        "input": {
            "required": {
                "image": ["IMAGE"],
                "model_input_size": ["INT", {"default": 512, "min": 32, "max": 4096, "step": 32}],
                "checkpoint": [[LARGE], {}],
            },
            "optional": {"precision": [["auto"], {}], "low_memory": [["fold", "tail", "off"], {}]},
        },
        "input_order": {"required": ["image", "model_input_size", "checkpoint"], "optional": ["precision", "low_memory"]},
    }  # fmt: skip


def test_a_server_with_our_node_keeps_the_size_and_the_editors_copy_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standins, "_KNOWN", {*standins._KNOWN, "GpuwatchDDColor"})
    editor = json.loads((DATA / "ddcolor_modelscope_1280.ui.json").read_text())
    prompt = as_prompt(read_workflow(editor), told_knowledge())
    with guarded() as scene:
        scene.standin.comfyui.recorded["object_info"]["GpuwatchDDColor"] = ours()
        failed = scene.run(prompt=prompt, extra_data={"extra_pnginfo": {"workflow": editor}})
        scene.guard.heard(failed, "error")
        scene.follow()
        assert scene.events == ["requeued", "held"]
        assert scene.told[0].action == "switch_node"
        item = scene.standin.comfyui.history[scene.notes[0].fields["new_job"]]["prompt"]
        (api,) = [node for node in item[2].values() if node["class_type"] == "GpuwatchDDColor"]
        assert api["inputs"]["model_input_size"] == 1280
        (node,) = [node for node in item[3]["extra_pnginfo"]["workflow"]["nodes"] if node["type"] == "GpuwatchDDColor"]
        assert node["widgets_values"] == [1280, LARGE, "auto", "fold"]


def test_where_our_node_lacks_its_checkpoint_the_stock_one_is_made_to_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standins, "_KNOWN", {*standins._KNOWN, "GpuwatchDDColor"})
    with guarded() as scene:
        scene.standin.comfyui.recorded["object_info"]["GpuwatchDDColor"] = ours()
        scene.standin.comfyui.faults["GpuwatchDDColor"] = "The checkpoint ddcolor_modelscope.pth is in none of: models"
        failed = scene.run()
        scene.guard.heard(failed, "error")
        scene.follow()
        assert scene.events == ["requeued", "failed", "requeued", "held"]
        assert "checkpoint" in render(scene.notes[1].words)
        assert [(told.action, told.outcome) for told in scene.told] == [
            ("switch_node", "applied"), ("switch_node", "failed"), ("shrink_size", "applied"), ("shrink_size", "held"),
        ]  # fmt: skip
        assert scene.prompt_of(scene.notes[2].fields["new_job"])["3"]["class_type"] == "DDColor_Colorize"


def test_the_editors_copy_gets_the_size_too() -> None:
    editor = json.loads((DATA / "ddcolor_modelscope_1280.ui.json").read_text())
    prompt = as_prompt(read_workflow(editor), told_knowledge())
    with guarded() as scene:
        failed = scene.run(prompt=prompt, extra_data={"extra_pnginfo": {"workflow": editor, "other": [1]}})
        scene.guard.heard(failed, "error")
        scene.follow()
        item = scene.standin.comfyui.history[scene.notes[0].fields["new_job"]]["prompt"]
        info = item[3]["extra_pnginfo"]
        (api,) = [node for node in item[2].values() if node["class_type"] == "DDColor_Colorize"]
        (node,) = [node for node in info["workflow"]["nodes"] if node["type"] == "DDColor_Colorize"]
        assert node["widgets_values"][0] == api["inputs"]["model_input_size"] < 1280
        assert info["other"] == [1]
