"""`gpuwatch submit` as it is run, beside servers that answer as ComfyUI does."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.comfyui import patience, submitting
from gpuwatch.adapters.comfyui.bulk_folder import NAME
from gpuwatch.adapters.comfyui.client import NoAnswerError
from gpuwatch.adapters.comfyui.ended import OF_BATCH
from gpuwatch.core.loop.bulk import Photo, output_names, output_paths, read_entries
from gpuwatch.errors import UnreachableError
from gpuwatch.faces.cli import main
from gpuwatch.faces.commands import submit
from gpuwatch.texts import plain
from tests.standin.comfyui import ComfyUI
from tests.standin.prompts import LARGE
from tests.standin.server import Standin, standing

PATIENCE_SECONDS = 60


def template(side_px: int = 256) -> dict[str, Any]:
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "3": {
            "class_type": "DDColor_Colorize",
            "inputs": {"image": ["1", 0], "model_input_size": side_px, "checkpoint": LARGE},
        },
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
    }


@pytest.fixture(autouse=True)
def _own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPUWATCH_STATE_DIR", str(tmp_path / "state"))
    for pause in ("_LONGEST_PAUSE", "_ARRIVES_SECONDS"):
        monkeypatch.setattr(submitting, pause, 0.05)
    monkeypatch.setattr(patience, "_LONGEST_PAUSE", 0.05)


@pytest.fixture
def standin() -> Iterator[Standin]:
    with standing() as standin:
        yield standin


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for name in ("a.jpg", "a.png", "b.jpg", "trip/c d.JPG", "trip/über.webp", ".hidden.jpg", "notes.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"photo {name}\r\n--\x00\xff".encode("latin-1"))
    return folder


WANTED = {
    "a.jpg.png": "a.jpg",
    "a.png.png": "a.png",
    "b.png": "b.jpg",
    "trip/c d.png": "trip/c d.JPG",
    "trip/über.png": "trip/über.webp",
}


def written(path: Path, value: Any) -> str:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return str(path)


def results(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode("latin-1").split("photo ")[1].partition("\r")[0]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != NAME
    }


def submitted(
    capsys: pytest.CaptureFixture[str], *words: str | Path
) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    code = main(["submit", *map(str, words), "--json"])
    *lines, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return code, lines, last


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


class running:  # noqa: N801 - reads as a sentence
    """`submit` on a thread."""

    def __init__(self, standin: Standin, photos: Path, folder: Path, **more: Any) -> None:
        self.arguments = argparse.Namespace(
            photos=[str(photos)], server=[standin.url], workflow=written(folder / "w.json", template(more.pop("side_px", 256))),
            out=folder / "out", input=None, depth=4, retry_degrade=False, resume=False, tries=3, min_size=None,
            header_file=None, token_file=None, gpu_memory=None, json=True, rules=None, give_up_after=600.0,
            journal=None, no_journal=False,
        )  # fmt: skip
        vars(self.arguments).update(more)
        self.stop = threading.Event()
        self.codes: list[int] = []

    def __enter__(self) -> tuple[list[int], threading.Event]:
        def run() -> None:
            with suppress(UnreachableError):
                self.codes.append(submit.submit(self.arguments, self.stop))

        self.thread = threading.Thread(target=run)
        self.thread.start()
        return self.codes, self.stop

    def __exit__(self, *_: object) -> None:
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive()


def waits_for(comfyui: ComfyUI, happened: Callable[[], bool]) -> None:
    with comfyui.changed:
        assert comfyui.changed.wait_for(happened, PATIENCE_SECONDS)


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


def test_patience_says_it_seldom_waits_longer_each_time_and_ends() -> None:
    now = [0.0]
    kept = patience.Patience("s", 600.0, lambda: now[0])
    error = NoAnswerError("status", plain("HTTP 500."))
    said, pauses = [], []
    while now[0] < 600:
        said.append(kept.failed(error))
        pauses.append(kept.pause_seconds(0.05))
        now[0] += pauses[-1] + 1
    with pytest.raises(NoAnswerError, match="HTTP 500") as given_up:
        kept.failed(error)
    assert str(len(said) + 1) in str(given_up.value)
    assert pauses == sorted(pauses)
    assert len([told for told in said if told is not None]) == 10
    assert kept.answered() is not None
    assert kept.answered() is None
    assert kept.failed(error) is not None, "a new time away begins"


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


def test_names_never_meet_and_never_leave_the_folder() -> None:
    made = [Photo("", name, 1, 1) for name in ("a.jpg", "A.png", "b/a.jpg", "c")]
    assert output_names(made) == {"a.jpg": "a.jpg", "A.png": "A.png", "b/a.jpg": "b/a", "c": "c"}
    assert output_paths("x", ["../../etc/passwd", "y.WEBP", "z.exe"]) == ["x.png", "x_2.webp", "x_3.png"]
    assert len({photo.upload_name for photo in made}) == 4
    assert Photo("", 'q"\r\n/ü name.jpg', 1, 1).upload_name.isascii()


def test_a_manifest_that_was_cut_off_or_is_hostile_says_no_more_than_it_can() -> None:
    told = {"input": "a", "input_bytes": 1, "input_mtime_ns": 2, "state": "done", "server": "s", "job": "j"}
    good = json.dumps({**told, "outputs": ["a.png"], "output_bytes": 3}).encode()
    lines = [good, good[:40], b"[]", b"\xff", good.replace(b"a.png", b"../a.png").replace(b'"a"', b'"b"')]
    assert set(read_entries(lines)) == {"a"}
    assert read_entries(lines)["a"].outputs == ("a.png",)


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
