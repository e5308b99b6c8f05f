"""`gpuwatch fix --server` without a file: the failed job of a server, changed and queued again."""

from __future__ import annotations

import json
import shlex
import threading
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.comfyui import acting
from gpuwatch.faces.cli import main
from tests.standin.comfyui import ComfyUI
from tests.standin.failing import GIB
from tests.standin.prompts import faulty, workflow
from tests.standin.server import Standin, standing

PATIENCE_SECONDS = 30


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPUWATCH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(acting, "_SETTLE_PAUSE", 0.02)


def ran(standin: Standin, prompt: dict[str, Any], **more: Any) -> str:
    _status, answer = standin.comfyui.submit({"prompt": prompt, **more})
    comfyui = standin.comfyui
    with comfyui.changed:
        assert comfyui.changed.wait_for(lambda: answer["prompt_id"] in comfyui.history, PATIENCE_SECONDS)
    return str(answer["prompt_id"])


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = main(["fix", "--server", *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_newest_failed_job_is_queued_again_and_held(standin: Standin, capsys: pytest.CaptureFixture[str]) -> None:
    ran(standin, workflow(2048))
    failed = ran(standin, workflow(1280), extra_data={"api_key_comfy_org": "opensecret"})
    ran(standin, workflow(256))
    code, value = told(capsys, standin.url, "--yes", "--wait")
    assert (code, value["job"], value["outcome"], value["action"]) == (0, failed, "held", "shrink_size")
    assert (value["node"], value["label"]) == ({"id": "3", "type": "DDColor_Colorize"}, "cuda_oom")
    (change,) = value["changes"]
    assert (change["from"], change["input"]) == (1280, "model_input_size")
    assert value["predicted"]["fits"] == "yes"
    assert standin.comfyui.history[value["queued"]]["prompt"][3]["api_key_comfy_org"] == "opensecret"


def test_a_job_whose_fix_held_is_not_queued_the_same_way_again(
    standin: Standin, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = ran(standin, workflow(1280))
    code, first = told(capsys, standin.url, "--yes", "--wait")
    assert (code, first["outcome"], first["held"]) == (0, "held", None)
    code, again = told(capsys, standin.url, "--yes", "--wait")
    assert (code, again["job"], again["queued"], again["changes"]) == (1, failed, None, [])
    assert again["held"]["action"] == "shrink_size"
    assert again["held"]["values"] == {"model_input_size": first["changes"][0]["to"]}
    assert again["held"]["job"] == first["queued"]
    assert len(standin.comfyui.executed) == 2
    assert main(["fix", "--server", standin.url, "--yes"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "✓ It held at " in said
    assert "✗ There is no other way" in said
    assert main(["fix", "--server", standin.url, "--yes", "--no-journal"]) == 0, "who keeps nothing knows of nothing"


@pytest.mark.parametrize("version", ["0.24.0", "0.3.64"])
def test_an_answer_that_is_lost_queues_nothing_twice(version: str, capsys: pytest.CaptureFixture[str]) -> None:
    with standing(ComfyUI(version)) as standin:
        failed = ran(standin, workflow(1280))
        standin.hazards.lost.add("/prompt")
        code, value = told(capsys, standin.url, "--yes", "--wait")
        assert (code, value["outcome"]) == (0, "held")
        assert standin.comfyui.executed == [failed, value["queued"]]


def test_an_answer_that_is_lost_with_the_prompt_says_that_nothing_was_queued(
    standin: Standin, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = ran(standin, workflow(1280))
    standin.hazards.late = threading.Event()  # never comes
    assert main(["fix", "--server", standin.url, "--yes"]) == 3
    assert "nothing was queued" in capsys.readouterr().err
    assert standin.comfyui.executed == [failed]


def test_it_is_only_shown_where_nobody_agrees(standin: Standin, capsys: pytest.CaptureFixture[str]) -> None:
    failed = ran(standin, workflow(1280), extra_data={"api_key_comfy_org": "opensecret"})
    for words in ([], ["--dry-run"], ["--dry-run", "--yes"]):
        assert main(["fix", "--server", standin.url, *words]) == 0
        said = capsys.readouterr()
        assert failed in said.out
        assert "1280  →  " in said.out
        assert "opensecret" not in said.out + said.err
    assert standin.comfyui.executed == [failed]


def test_one_that_fails_again_says_so_and_is_not_proposed_again(
    standin: Standin, capsys: pytest.CaptureFixture[str]
) -> None:
    standin.comfyui.needs_bytes = lambda _side, _checkpoint: 99.0 * GIB  # type: ignore[method-assign]  # nothing ever fits
    failed = ran(standin, workflow(1280))
    code, first = told(capsys, standin.url, "--yes", "--wait")
    assert (code, first["outcome"]) == (4, "failed")
    code, second = told(capsys, standin.url, "--job", failed, "--dry-run")
    assert code == 0
    assert second["changes"][0]["to"] < first["changes"][0]["to"]


def test_a_job_that_was_interrupted_or_lost_while_it_waited(
    standin: Standin, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(standin, workflow(1280))
    comfyui = standin.comfyui
    comfyui.gate.clear()

    def interrupt() -> None:
        with comfyui.changed:
            comfyui.changed.wait_for(lambda: comfyui.running is not None, PATIENCE_SECONDS)
        comfyui.stop_running(None)

    beside = threading.Thread(target=interrupt)
    beside.start()
    code, value = told(capsys, standin.url, "--yes", "--wait")
    beside.join()
    assert (code, value["outcome"]) == (4, "interrupted")


def test_what_cannot_be_mended(standin: Standin, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fix", "--server", standin.url]) == 2
    assert "no failed job" in capsys.readouterr().err
    broken = ran(standin, faulty("shapes do not match"))
    code, value = told(capsys, standin.url)
    assert (code, value["job"], value["changes"]) == (1, broken, [])
    assert "shapes do not match" in value["unfixable"][0]
    assert main(["fix", "--server", standin.url, "--job", "nobody"]) == 4
    well = ran(standin, workflow(128))
    assert main(["fix", "--server", standin.url, "--job", well]) == 2
    assert main(["fix", "--server", standin.url, "--in-place"]) == 2
    assert main(["fix", "--job", "x", "--undo", "x"]) == 2
    assert main(["fix", "x.json", "--wait"]) == 2
    capsys.readouterr()


def test_a_node_that_is_gone_since_is_told_as_the_server_does(
    standin: Standin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(standin, workflow(1280))
    monkeypatch.setattr("tests.standin.comfyui._KNOWN", {"SaveImage", "EmptyImage"})
    assert main(["fix", "--server", standin.url, "--yes"]) == 4
    assert "DDColor_Colorize" in capsys.readouterr().err


def test_what_is_no_server(standin: Standin, capsys: pytest.CaptureFixture[str]) -> None:
    standin.hazards.html = True
    assert main(["fix", "--server", standin.url.replace("//", "//me:hunter2@")]) == 3
    said = capsys.readouterr()
    assert "text/html" in said.err
    assert "hunter2" not in said.err
    standin.down()
    assert main(["fix", "--server", standin.url]) == 3
    assert main(["fix", "--server", "ftp://x"]) == 2
    capsys.readouterr()


def test_an_older_server_too(capsys: pytest.CaptureFixture[str]) -> None:
    with standing(ComfyUI("0.3.64")) as standin:
        ran(standin, workflow(1280))
        assert told(capsys, standin.url, "--yes", "--wait")[1]["outcome"] == "held"


NO_SPACE = "[Errno 28] No space left on device: '/data/output/colorized_00001_.png'"


def test_a_job_whose_cause_lies_outside_is_queued_again_as_it_was_only_when_that_is_said(
    standin: Standin, capsys: pytest.CaptureFixture[str]
) -> None:
    standin.comfyui.faults["SaveImage"] = NO_SPACE
    failed = ran(standin, workflow(256), extra_data={"api_key_comfy_org": "opensecret"})
    code, value = told(capsys, standin.url, "--yes")
    assert (code, value["action"], value["queued"]) == (1, None, None)
    assert value["first"]["action"] == "free_disk"
    assert main(["fix", "--server", standin.url, "--yes"]) == 1
    said = capsys.readouterr().out
    assert "First: Free space on the disk of /data/output." in said
    assert f"--job {failed} --as-it-was" in said
    code, value = told(capsys, standin.url, "--as-it-was", "--yes", "--wait")
    assert (code, value["action"], value["outcome"]) == (4, "queue_again", "failed"), "nothing was mended"
    standin.comfyui.faults.clear()
    code, value = told(capsys, standin.url, "--job", failed, "--as-it-was", "--yes", "--wait")
    assert (code, value["changes"], value["outcome"]) == (0, [], "held")
    again = standin.comfyui.history[value["queued"]]["prompt"]
    assert again[2] == workflow(256)
    assert again[3]["api_key_comfy_org"] == "opensecret"
    code, value = told(capsys, standin.url, "--job", failed, "--as-it-was", "--yes")
    assert (code, value["queued"], value["held"]["action"]) == (1, None, "queue_again"), "it held, once is enough"


def test_a_job_id_that_a_server_made_up_does_nothing_in_the_command_that_is_shown(
    standin: Standin, capsys: pytest.CaptureFixture[str]
) -> None:
    standin.comfyui.faults["SaveImage"] = NO_SPACE
    ran(standin, workflow(256), prompt_id="odd; touch owned #")
    assert main(["fix", "--server", standin.url, "--yes"]) == 1
    command = capsys.readouterr().out.partition("Then: ")[2].splitlines()[0]
    assert shlex.split(command)[-3:] == ["--job", "odd; touch owned #", "--as-it-was"]


def test_what_the_workflow_itself_causes_is_not_queued_again_as_it_was(
    standin: Standin, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(standin, workflow(1280))
    code, value = told(capsys, standin.url, "--as-it-was", "--yes")
    assert (code, value["queued"], value["first"]) == (1, None, None)
    assert "as it was it would fail again" in value["unfixable"][0]
    assert main(["fix", "x.json", "--as-it-was"]) == 2
    capsys.readouterr()
