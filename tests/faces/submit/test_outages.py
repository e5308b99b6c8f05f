"""`gpuwatch submit` where it is stopped, or a server restarts, loses answers, or errs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.comfyui.bulk_folder import NAME
from gpuwatch.adapters.comfyui.submitting import Lane
from gpuwatch.core.loop.bulk import read_entries
from gpuwatch.faces.cli import main
from tests.faces.submit.submitted import (
    WANTED,
    results,
    running,
    submitted,
    template,
    waits_for,
    written,
)
from tests.standin.comfyui import ComfyUI
from tests.standin.server import Standin, standing


def test_ctrl_c_and_going_on_takes_over_what_the_server_still_has(
    standin: Standin, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comfyui = standin.comfyui
    comfyui.gate.clear()
    with running(standin, photos, tmp_path, depth=3) as (codes, stop):
        waits_for(comfyui, lambda: comfyui.remaining == 3)
        stop.set()
    assert codes == [130]
    assert "--resume" in capsys.readouterr().err
    comfyui.gate.set()
    workflow, out = str(tmp_path / "w.json"), tmp_path / "out"
    assert main(["submit", str(photos), "--workflow", workflow, "--out", str(out), "--server", standin.url]) == 2
    capsys.readouterr()
    code, _lines, last = submitted(
        capsys, photos, "--workflow", workflow, "--out", out, "--server", standin.url, "--resume"
    )
    assert (code, last["done"]) == (0, 5)
    assert results(out) == WANTED
    assert len(comfyui.executed) == 5, "what was queued before is not queued again"


def test_what_a_restart_lost_is_queued_again(standin: Standin, photos: Path, tmp_path: Path) -> None:
    comfyui = standin.comfyui
    comfyui.gate.clear()
    with running(standin, photos, tmp_path, depth=3) as (codes, _stop):
        waits_for(comfyui, lambda: comfyui.remaining == 3)
        standin.down()
        comfyui.restart()
        comfyui.gate.set()
        standin.up()
    assert codes == [0]
    assert results(tmp_path / "out") == WANTED
    assert len(comfyui.executed) == 5


@pytest.mark.parametrize("takes_ids", [True, False])
def test_answers_that_are_lost_queue_nothing_twice(takes_ids: bool, photos: Path, tmp_path: Path) -> None:
    with standing(ComfyUI(takes_ids=takes_ids)) as standin:
        standin.hazards.lost.add("/prompt")
        with running(standin, photos, tmp_path, depth=2) as (codes, _stop):
            pass
        assert codes == [0]
        assert results(tmp_path / "out") == WANTED
        assert len(standin.comfyui.executed) == 5


def test_what_is_queued_stands_in_the_manifest_before_the_server_has_it(
    standin: Standin, photos: Path, tmp_path: Path
) -> None:
    seen: list[int] = []
    submitted_one = standin.comfyui.submit

    def looked(body: Any) -> tuple[int, dict[str, Any]]:
        entries = read_entries((tmp_path / "out" / NAME).read_bytes().splitlines())
        seen.append([entry.job for entry in entries.values()].count(body["prompt_id"]))
        return submitted_one(body)

    standin.comfyui.submit = looked  # type: ignore[method-assign]
    with running(standin, photos, tmp_path) as (codes, _stop):
        pass
    assert (codes, seen) == ([0], [1] * 5)


@pytest.mark.parametrize("route", ["/upload/image", "/prompt", "/history"])
def test_a_server_that_only_errs_is_given_up_and_what_is_done_is_kept(
    route: str, standin: Standin, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comfyui = standin.comfyui
    comfyui.gate.clear()
    common = [photos, "--workflow", written(tmp_path / "w.json", template()), "--out", tmp_path / "out"]
    common += ["--server", standin.url, "--depth", "2", "--resume"]
    with running(standin, photos, tmp_path, depth=2, give_up_after=0.4, json=False) as (codes, _stop):
        waits_for(comfyui, lambda: comfyui.remaining == 2)
        standin.hazards.statuses |= {route: 500} if route != "/history" else {"/queue": 503, "/upload/image": 500}
        comfyui.gate.set()
    assert codes == []
    told = capsys.readouterr().err
    assert "Waiting for it." in told
    assert "Waiting for it." not in told.partition("Waiting for it.")[2], "said once"
    standin.hazards.statuses.clear()
    code, _lines, last = submitted(capsys, *common)
    assert (code, last["left"], last["failed"]) == (0, 0, 0)
    assert results(tmp_path / "out") == WANTED
    assert len(comfyui.executed) == 5


def test_the_others_do_what_a_server_that_errs_does_not(
    standin: Standin, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with standing() as other:
        other.hazards.statuses["/upload/image"] = 500
        code, _lines, last = submitted(
            capsys, photos, "--workflow", written(tmp_path / "w.json", template()), "--out", tmp_path / "out",
            "--server", standin.url, "--server", other.url, "--give-up-after", "1s",
        )  # fmt: skip
    assert (code, last["done"]) == (0, 5)
    assert results(tmp_path / "out") == WANTED


def test_a_photo_that_the_server_fails_over_does_not_hold_up_the_others(
    standin: Standin, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    submitted_one = standin.comfyui.submit

    def errs(body: Any) -> tuple[int, Any]:
        return (500, []) if "b-" in body["prompt"]["1"]["inputs"]["image"] else submitted_one(body)

    standin.comfyui.submit = errs  # type: ignore[method-assign]
    code, lines, last = submitted(
        capsys, photos, "--workflow", written(tmp_path / "w.json", template()), "--out", tmp_path / "out",
        "--server", standin.url, "--depth", "1",
    )  # fmt: skip
    assert (code, last["done"], last["failed"]) == (4, 4, 1)
    assert ["500" in line["failed"] for line in lines if line["failed"]] == [True]


def test_a_fault_of_ours_is_no_end_without_a_word(
    standin: Standin, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_lane: Lane) -> bool:
        raise RuntimeError("our fault")

    monkeypatch.setattr(Lane, "step", broken)
    options = ["--workflow", written(tmp_path / "w.json", template()), "--out", str(tmp_path / "out")]
    with pytest.raises(RuntimeError, match="our fault"):
        main(["submit", str(photos), *options, "--server", standin.url])
