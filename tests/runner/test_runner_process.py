"""The adapter and its child, both real: events in order, errors as errors, and no child left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import psutil
import pytest

from gpuwatch.adapters.runner_process import Event, RunnerProcess, error_of, text_of
from gpuwatch.errors import JobError, UnreachableError, UsageError
from gpuwatch.texts import Text

REPOSITORY = Path(__file__).parents[2]


def stand_in(folder: Path, source: str) -> MappingProxyType[str, str]:
    """An environment in which `gpuwatch_runner` is `source`: a child that does what the real one does only when it breaks."""
    (folder / "gpuwatch_runner.py").write_text(source)
    return MappingProxyType({**os.environ, "PYTHONPATH": str(folder)})


def events_of(source: str, folder: Path, lines: list[str] | None = None) -> list[Event]:
    narrate = None if lines is None else lines.append
    with RunnerProcess(["ddcolor"], narrate, environment=stand_in(folder, source)) as child:
        return list(child)


def test_a_run_yields_its_events_and_ends_with_the_report(photos: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    (photos / "text.jpg").write_text("no image")
    arguments = ["ddcolor", str(photos), "--size", "32", "--device", "cpu", "--out", str(tmp_path / "out")]
    with RunnerProcess(arguments, lines.append, environment={**os.environ, "LC_ALL": "C.UTF-8"}) as child:
        assert psutil.Process(child.pid).is_running()
        kinds = [event["event"] for event in child]
    assert kinds == ["started", "stage", "stage", "image", "image", "failed", "report"]
    assert child.report is not None
    assert child.report["images"] == 2
    assert child.exit_code == 2
    assert any("weights are random" in line for line in lines)


def test_the_child_s_error_is_raised_with_its_words(tmp_path: Path) -> None:
    with RunnerProcess(["ddcolor", str(tmp_path), "--size", "720"]) as child, pytest.raises(UsageError) as raised:
        list(child)
    assert raised.value.message.values["below_px"] == 704
    assert str(raised.value) == "DDColor cannot run at 720 px: sizes are multiples of 32 px; use 704 px or 736 px"
    assert child.exit_code == 2


def test_a_python_without_torch_is_told_what_to_install(tmp_path: Path) -> None:
    bare = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    if (
        not bare.exists()
        or subprocess.run([bare, "-c", "import torch"], capture_output=True, check=False).returncode == 0
    ):
        pytest.skip("no Python without torch here")
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY / 'runner'}"}
    with (
        RunnerProcess(["ddcolor", str(tmp_path)], python=str(bare), environment=environment) as child,
        pytest.raises(UsageError, match=r"torch.* is not installed, and runs need it") as raised,
    ):
        list(child)
    assert str(raised.value.hint) == 'pip install "gpuwatch[runner]"'


def test_a_python_without_the_runner_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No module named") as raised:
        events_of("import a_library_that_is_not_there", tmp_path)
    assert str(raised.value.hint) == 'pip install "gpuwatch[runner]"'


def test_a_child_that_dies_says_its_last_words(tmp_path: Path) -> None:
    lines: list[str] = []
    source = "import sys\nfor n in range(9): print('line', n, file=sys.stderr)\nsys.exit(7)"
    with pytest.raises(JobError) as raised:
        events_of(source, tmp_path, lines)
    assert str(raised.value) == (
        "The runner ended with code 7 before its report: line 4 | line 5 | line 6 | line 7 | line 8"
    )
    assert len(lines) == 9


def test_a_child_that_is_killed_says_by_what(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="ended by SIGKILL") as raised:
        events_of("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    assert "host memory" in str(raised.value.hint)


def test_a_line_that_is_no_event_is_narrated(tmp_path: Path) -> None:
    lines: list[str] = []
    source = """print('a library speaks')\nprint('[1]')\nprint('{"event": "report"}')"""
    assert events_of(source, tmp_path, lines) == [{"event": "report"}]
    assert lines == ["a library speaks", "[1]"]


def test_a_caller_that_stops_early_ends_the_child(tmp_path: Path) -> None:
    source = """import time\nprint('{"event": "started"}', flush=True)\ntime.sleep(600)"""
    child = RunnerProcess(["ddcolor"], environment=stand_in(tmp_path, source))
    for event in child:
        assert event == {"event": "started"}
        break
    child.close()
    assert child.exit_code == -signal.SIGTERM
    child.close()


def test_an_interrupted_caller_ends_the_child(tmp_path: Path) -> None:
    source = """import time\nprint('{"event": "started"}', flush=True)\ntime.sleep(600)"""

    def interrupted() -> None:
        with RunnerProcess(["ddcolor"], environment=stand_in(tmp_path, source)) as child:
            children.append(child)
            for _ in child:
                raise KeyboardInterrupt

    children: list[RunnerProcess] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert children[0].exit_code == -signal.SIGTERM


def test_a_python_that_is_not_there() -> None:
    with pytest.raises(JobError, match="cannot be started: No such file"):
        RunnerProcess([], python="/nowhere/python")


def test_errors_keep_their_kind_and_hint() -> None:
    words = {"template": "{free_bytes} left", "values": {"free_bytes": 1 << 30}}
    for code, kind in ((2, UsageError), (3, UnreachableError), (4, JobError), (99, JobError)):
        error = error_of({"event": "error", "exit_code": code, "message": words, "hint": None})
        assert type(error) is kind
        assert str(error) == "1.00 GiB left"
        assert error.hint is None
    assert text_of(words) == Text("{free_bytes} left", MappingProxyType({"free_bytes": 1 << 30}))
    assert text_of("words") is None
