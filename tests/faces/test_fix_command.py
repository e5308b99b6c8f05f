"""`gpuwatch fix` as a person and a program use it."""

from __future__ import annotations

import io
import json
import shlex
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.faces.cli import main
from tests.workflows import DATA, object_info

LOGS = DATA.parent / "recordings"
LARGE_LOG = LOGS / "comfyui-0.24.0-oom_large_1280-stderr.log"
TINY_LOG = LOGS / "comfyui-0.24.0-oom-stderr.log"


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    path = tmp_path / "workflow.json"
    path.write_bytes((DATA / "ddcolor_modelscope_1280.json").read_bytes())
    return path


def job(message: str, **more: Any) -> str:
    said = {"prompt_id": "p", "node_id": "3", "node_type": "DDColor_Colorize", "exception_message": message, **more}
    return json.dumps({"p": {"status": {"messages": [["execution_error", said]]}}})


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    code = main(["fix", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_json_has_the_shape_that_scripts_rely_on(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, value = told(capsys, workflow, "--gpu-memory", "6GiB")
    assert code == 0
    (change,) = value["changes"]
    assert (change["node_id"], change["class_type"], change["input"]) == ("3", "DDColor_Colorize", "model_input_size")
    assert change["from"] == 1280 > change["to"]
    assert change["to"] % 32 == 0
    assert change["why"]
    assert value["predicted"]["fits"] == "yes"
    assert value["predicted"]["peak_bytes"] <= 6 << 30
    assert (value["unfixable"], value["written"], value["form"]) == ([], None, "api")


def test_the_page_shows_both_values_and_writes_nothing_by_itself(
    workflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = workflow.read_bytes()
    assert main(["fix", str(workflow), "--gpu-memory", "6GiB"]) == 0
    page = capsys.readouterr().out
    assert "1280  →  " in page
    assert "of 6.00 GiB" in page
    assert "--in-place" in page
    assert workflow.read_bytes() == before


def test_out_in_place_and_undo(workflow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, out = workflow.read_bytes(), tmp_path / "out.json"
    _code, value = told(capsys, workflow, "--gpu-memory", "6GiB", "--out", out, "--yes")
    assert (value["written"], workflow.read_bytes()) == (str(out), before)
    size = str(value["changes"][0]["to"]).encode()
    assert out.read_bytes() == before.replace(b"1280", size)
    told(capsys, workflow, "--gpu-memory", "6GiB", "--in-place", "--dry-run")
    assert workflow.read_bytes() == before
    _code, value = told(capsys, workflow, "--gpu-memory", "6GiB", "--in-place", "--yes")
    assert (Path(value["backup"]).read_bytes(), workflow.read_bytes()) == (before, out.read_bytes())
    assert main(["fix", "--undo", str(workflow)]) == 0
    assert workflow.read_bytes() == before
    capsys.readouterr()
    assert main(["fix", str(workflow), "--gpu-memory", "6GiB", "--out", "-"]) == 0
    streams = capsys.readouterr()
    assert json.loads(streams.out)["3"]["inputs"]["model_input_size"] == int(size)
    assert "→" in streams.err


def test_the_way_back_can_be_pasted_into_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "我的 工作流.json"
    path.write_bytes((DATA / "ddcolor_modelscope_1280.json").read_bytes())
    assert main(["fix", str(path), "--gpu-memory", "6GiB", "--in-place", "--yes"]) == 0
    command = next(line for line in capsys.readouterr().out.splitlines() if "--undo" in line).split("`")[1]
    assert shlex.split(command) == ["gpuwatch", "fix", "--undo", str(path)]


def test_the_failed_job_tells_node_and_card(workflow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = tmp_path / "history.json"
    message = (
        "CUDA out of memory. Tried to allocate 1.56 GiB. GPU 0 has a total capacity of 5.79 GiB of which 640.00 MiB is free. "
        "Including non-PyTorch memory, this process has 5.10 GiB memory in use. Of the allocated memory 4.37 GiB is allocated "
        "by PyTorch, and 338.00 MiB is reserved by PyTorch but unallocated."
    )
    error.write_text(job(message, current_inputs={"model_input_size": [1280]}))
    code, value = told(capsys, workflow, "--error", error)
    assert (code, value["changes"][0]["input"], value["notes"]) == (0, "model_input_size", value["notes"])
    assert value["predicted"]["peak_bytes"] <= 5.79 * (1 << 30)
    error.write_text(job("size mismatch", exception_type="ValueError"))
    code, value = told(capsys, workflow, "--error", error, "--gpu-memory", "24GiB")
    assert code == 1
    assert any("not about GPU memory: ValueError: size mismatch" in note for note in value["notes"])


def test_the_log_tells_the_node(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, value = told(capsys, workflow, "--log", LARGE_LOG, "--gpu-memory", "6GiB")
    assert (code, len(value["changes"])) == (0, 1)
    code, value = told(capsys, DATA / "ddcolor_paper_tiny_1024.json", "--log", TINY_LOG, "--gpu-memory", "8GiB")
    assert (code, value["changes"]) == (1, [])
    assert "something else held its memory" in value["unfixable"][0]


def test_a_log_on_standard_input(
    workflow: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with LARGE_LOG.open() as log:
        monkeypatch.setattr("sys.stdin", log)
        code, value = told(capsys, workflow, "--log", "-", "--gpu-memory", "6GiB")
    assert (code, len(value["changes"])) == (0, 1)


def test_a_log_of_another_program_is_said_to_tell_nothing(
    workflow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "nginx.log"
    log.write_text('127.0.0.1 - - "GET / HTTP/1.1" 200\n')
    code, value = told(capsys, workflow, "--log", log, "--gpu-memory", "24GiB")
    assert code == 1
    assert "tells of no failure for want of GPU memory" in value["notes"][0]


def test_a_vae_failure_in_a_log_of_a_known_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "comfyui.log"
    log.write_text(
        "ComfyUI version: 0.3.64\ngot prompt\n"
        "!!! Exception during processing !!! CUDA out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total capacity of "
        "7.79 GiB of which 1.00 GiB is free.\nTraceback (most recent call last):\n"
        '  File "C:\\ComfyUI\\nodes.py", line 295, in decode\n'
        '  File "C:\\ComfyUI\\comfy\\sd.py", line 660, in decode\n'
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 4.00 GiB.\n\nPrompt executed in 1.00 seconds\n"
    )
    code, value = told(capsys, DATA / "sd15.json", "--log", log)
    (change,) = value["changes"]
    assert (code, change["from"], change["to"], change["node_id"]) == (0, "VAEDecode", "VAEDecodeTiled", "8")
    assert (value["predicted"]["peak_bytes"], value["predicted"]["fits"]) == (None, "uncertain")


def test_a_person_is_asked_and_may_say_no(
    workflow: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    before = workflow.read_bytes()
    monkeypatch.setattr("sys.stdin", Terminal("n\n\ny\n"))
    monkeypatch.setattr("sys.stderr", Terminal())
    for _answer in ("n", ""):
        assert main(["fix", str(workflow), "--gpu-memory", "6GiB", "--in-place"]) == 0
        assert workflow.read_bytes() == before
    assert main(["fix", str(workflow), "--gpu-memory", "6GiB", "--in-place"]) == 0
    assert workflow.read_bytes() != before
    capsys.readouterr()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["{workflow}"],
        ["{workflow}", "--gpu-memory", "0"],
        ["{workflow}", "--gpu-memory", "-4GiB"],
        ["{workflow}", "--gpu-memory", "4GiB", "--used", "4GiB"],
        ["{workflow}", "--gpu-memory", "4GiB", "--used", "-1GiB"],
        ["{workflow}", "--gpu-memory", "4GiB", "--out", "{workflow}"],
        ["{workflow}", "--gpu-memory", "4GiB", "--out", "x", "--in-place"],
        ["{workflow}", "--gpu-memory", "4GiB", "--out", "-", "--json"],
        ["{workflow}", "--gpu-memory", "4GiB", "--log", "nothing.log"],
        ["{workflow}", "--gpu-memory", "4GiB", "--error", "{workflow}"],
        ["{workflow}", "--gpu-memory", "4GiB", "--object-info", "{workflow}"],
        ["{workflow}", "--gpu-memory", "4GiB", "--server", "ftp://x"],
        ["nothing.json", "--gpu-memory", "4GiB"],
        ["--undo", "{workflow}"],
    ],
)
def test_what_cannot_be_used_is_refused(
    workflow: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = workflow.read_bytes()
    assert main(["fix", *(word.format(workflow=workflow) for word in arguments)]) == 2
    streams = capsys.readouterr()
    assert streams.err.startswith("gpuwatch: ")
    assert "Traceback" not in streams.err
    assert workflow.read_bytes() == before


def test_the_page_is_chinese_where_that_is_asked(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fix", str(workflow), "--gpu-memory", "6GiB", "--lang", "zh"]) == 0
    page = capsys.readouterr().out
    assert "不会写入" in page or "未写入" in page or "没有写入" in page
    main(["fix", str(workflow), "--gpu-memory", "6GiB", "--lang", "en"])


# -- a server ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, Any]]]:
    answers: dict[str, Any] = {
        "/object_info": object_info(),
        "/system_stats": {
            "system": {"comfyui_version": "0.24.0"},
            "devices": [{"name": "cuda:0", "type": "cuda", "vram_total": 6 << 30}],
        },
    }

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            body = json.dumps(answers.get(self.path, {})).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", answers
        http.shutdown()
        thread.join()


def test_the_server_tells_the_card_and_the_bounds_of_its_nodes(
    workflow: Path, server: tuple[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    address, answers = server
    _code, value = told(capsys, workflow, "--server", address)
    plain = value["changes"][0]["to"]
    entry = json.loads(json.dumps(object_info()))
    entry["DDColor_Colorize"]["input"]["required"]["model_input_size"][1]["step"] = 256
    entry["DDColor_Colorize"]["input"]["required"]["model_input_size"][1]["min"] = 256
    answers["/object_info"] = entry
    _code, value = told(capsys, workflow, "--server", address)
    assert value["changes"][0]["to"] == plain // 256 * 256
    answers["/system_stats"] = []
    assert main(["fix", str(workflow), "--server", address]) == 3


def test_a_server_that_is_not_there(workflow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fix", str(workflow), "--gpu-memory", "4GiB", "--server", "127.0.0.1:1"]) == 3
    assert "nothing listens there" in capsys.readouterr().err
