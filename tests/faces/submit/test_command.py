"""`gpuwatch submit` as it is run, beside servers that answer as ComfyUI does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.comfyui.ended import OF_BATCH
from gpuwatch.faces.cli import main
from tests.faces.submit.submitted import (
    PATIENCE_SECONDS,
    WANTED,
    results,
    running,
    submitted,
    template,
    written,
)
from tests.standin.comfyui import ComfyUI
from tests.standin.server import Standin, standing


def test_a_tree_goes_through_two_servers_and_comes_back_as_it_stood(
    standin: Standin, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with standing(ComfyUI("0.3.64")) as other:
        workflow, out = written(tmp_path / "w.json", template()), tmp_path / "out"
        code, lines, last = submitted(
            capsys, photos, "--workflow", workflow, "--out", out, "--server", standin.url, "--server", other.url, "--depth", "1"
        )  # fmt: skip
        assert (code, last) == (0, {"photos": 5, "done": 5, "skipped": 0, "failed": 0, "left": 0})
        assert results(out) == WANTED
        assert {line["server"] for line in lines} <= {f"127.0.0.1:{standin.port}", f"127.0.0.1:{other.port}"}
        assert len(standin.comfyui.executed) + len(other.comfyui.executed) == 5

        code, lines, last = submitted(
            capsys, photos, "--workflow", workflow, "--out", out, "--server", standin.url, "--resume"
        )
        assert (code, lines, last["skipped"]) == (0, [], 5)
        (out / "b.png").unlink()
        (photos / "a.jpg").write_bytes(b"photo another\r")
        code, lines, last = submitted(
            capsys, photos, "--workflow", workflow, "--out", out, "--server", standin.url, "--resume"
        )
        assert (code, last["done"], last["skipped"]) == (0, 2, 3)
        assert results(out)["a.jpg.png"] == "another"


def test_no_more_than_asked_are_queued_at_a_time(standin: Standin, photos: Path, tmp_path: Path) -> None:
    comfyui = standin.comfyui
    comfyui.gate.clear()
    most: list[int] = []
    status = comfyui.status

    def counted() -> None:
        most.append(comfyui.remaining)
        status()

    comfyui.status = counted  # type: ignore[method-assign]
    with running(standin, photos, tmp_path, depth=2) as (codes, _stop):
        with comfyui.changed:
            assert comfyui.changed.wait_for(lambda: comfyui.remaining == 2, PATIENCE_SECONDS)
        comfyui.gate.set()
    assert codes == [0]
    assert max(most) == 2
    assert results(tmp_path / "out") == WANTED


def test_memory_that_runs_out_is_degraded_for_and_the_next_photos_begin_with_what_held(
    standin: Standin, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = written(tmp_path / "w.json", template(1280))
    common = [photos, "--workflow", workflow, "--server", standin.url, "--depth", "1"]
    code, lines, last = submitted(capsys, *common, "--out", tmp_path / "without")
    assert (code, last["failed"], len(lines)) == (4, 5, 5)
    assert all("--retry-degrade" in line["failed"] for line in lines)
    before = len(standin.comfyui.executed)
    code, lines, last = submitted(capsys, *common, "--out", tmp_path / "with", "--retry-degrade")
    assert (code, last["done"]) == (0, 5)
    assert len(standin.comfyui.executed) - before == 6, "only the first photo failed before it held"
    told = [entry["prompt"][3] for entry in standin.comfyui.history.values()]
    assert all(extra[OF_BATCH] for extra in told), "what was queued again is the batch's, too: a guard leaves it alone"
    assert results(tmp_path / "with") == WANTED
    (change,) = lines[0]["changes"]
    assert change["from"] == 1280 > change["to"]
    assert lines[0]["tries"] == 2


def test_one_bad_photo_does_not_stop_the_others(
    standin: Standin, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "b.jpg").unlink()
    (photos / "b.jpg").symlink_to(photos / "nowhere.jpg")
    workflow = written(tmp_path / "w.json", template())
    code, lines, last = submitted(
        capsys, photos, "--workflow", workflow, "--out", tmp_path / "out", "--server", standin.url
    )
    assert (code, last["done"], last["failed"]) == (4, 4, 1)
    (failed,) = [line for line in lines if line["failed"]]
    assert (failed["input"], "cannot be read" in failed["failed"]) == ("b.jpg", True)


BAD: list[tuple[Any, str]] = [
    ("<html></html>", "web page"),
    ({"a": 1}, "no ComfyUI workflow"),
    ({"nodes": [{"id": 1, "type": "LoadImage"}], "links": []}, "Export (API)"),
    ({"3": template()["3"]}, "--input"),
    ({**template(), "2": template()["1"]}, "--input"),
]


@pytest.mark.parametrize("bad", BAD, ids=["html", "json", "ui", "none", "two"])
def test_a_workflow_that_takes_no_photo(
    bad: tuple[Any, str], standin: Standin, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value, words = bad
    workflow = written(tmp_path / "w.json", value)
    assert (
        main(["submit", str(photos), "--workflow", workflow, "--out", str(tmp_path / "o"), "--server", standin.url])
        == 2
    )
    assert words in capsys.readouterr().err


def test_what_cannot_be_used_is_said(
    standin: Standin, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow = written(tmp_path / "w.json", template())
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")

    def code(*words: str | Path, server: str = standin.url) -> int:
        return main(["submit", *map(str, words), "--workflow", workflow, "--server", server])

    assert code(tmp_path / "empty", "--out", tmp_path / "o") == 2
    assert code(tmp_path / "nobody", "--out", tmp_path / "o") == 2
    assert code(photos, "--out", tmp_path / "file") == 2
    assert code(photos, "--out", tmp_path / "o", "--depth", "0") == 2
    for time in ("0s", "soon", "-1m", "99999999d", "10"):
        assert code(photos, "--out", tmp_path / "o", "--give-up-after", time) == 2
    assert code(photos, "--out", tmp_path / "o", "--input", "9") == 2
    assert code(photos, "--out", tmp_path / "o", "--input", "3") == 2
    standin.hazards.html = True
    capsys.readouterr()
    assert code(photos, "--out", tmp_path / "o", server=standin.url.replace("//", "//me:hunter2@")) == 3
    assert "hunter2" not in capsys.readouterr().err
    standin.hazards.html = False
    assert not (tmp_path / "o" / "b.png").exists()
    broken = template()
    broken["3"]["inputs"]["model_input_size"] = 5000
    written(tmp_path / "w.json", broken)
    assert code(photos, "--out", tmp_path / "o") == 4
    assert "4096" in capsys.readouterr().err


def test_a_signal_ends_the_reading_of_what_never_comes(tmp_path: Path, photos: Path) -> None:
    pipe = tmp_path / "workflow.json"
    os.mkfifo(pipe)
    words = [
        "submit",
        "--server",
        "http://127.0.0.1:9",
        "--workflow",
        str(pipe),
        "--out",
        str(tmp_path / "out"),
        str(photos),
    ]
    started = subprocess.Popen([sys.executable, "-m", "gpuwatch.faces.cli", *words], stderr=subprocess.PIPE)
    with started as child, pipe.open("wb"):  # which opens once it is read
        child.terminate()
        assert child.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
    assert not (tmp_path / "out").exists()
