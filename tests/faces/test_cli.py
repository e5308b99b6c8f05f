"""The command line as a user meets it: streams, exit codes, and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

DATA = Path(__file__).parents[1] / "data" / "recordings"
OOM = DATA / "comfyui-0.24.0-oom_large_1280-stderr.log"
QUIET = DATA / "comfyui-0.24.0-interrupted-stderr.log"
GPUWATCH = [sys.executable, "-m", "gpuwatch.faces.cli"]
ENVIRONMENT = {**os.environ, "LANG": "C.UTF-8", "LC_ALL": "", "PYTHONWARNINGS": "error"}


def gpuwatch(*words: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*GPUWATCH, *words],
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
        env={**ENVIRONMENT, **environment},
    )
    result = subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())
    assert "Traceback" not in result.stderr.replace('Traceback (most recent call last):\n  File "/opt', "")
    return result


def test_diagnose_tells_the_contract_as_json() -> None:
    done = gpuwatch("diagnose", "--json", str(OOM))
    (line,) = done.stdout.splitlines()
    told = json.loads(line)
    assert done.returncode == 1
    assert told.keys() == {"source", "bytes", "records", "incidents"}
    assert (told["source"], told["bytes"]) == (str(OOM), OOM.stat().st_size)
    first = told["incidents"][0]
    wanted = "id rule label severity state fix_outcome line count text facts node cause confidence fixes"
    assert set(wanted.split()) <= first.keys()
    assert first["node"] == {"id": None, "type": "DDColor_Colorize"}
    assert "1280" in first["cause"]
    fix = next(fix for fix in first["fixes"] if fix["action"] == "shrink_size")
    assert fix.keys() >= {"action", "title", "safety", "params", "predicted", "command"}
    assert fix["predicted"]["fits"] == "yes"


def test_diagnose_reads_standard_input_and_several_files() -> None:
    done = gpuwatch("diagnose", "--json", "-", str(QUIET), stdin=OOM.read_bytes())
    first, second = map(json.loads, done.stdout.splitlines())
    assert (first["source"], len(first["incidents"])) == ("stdin", 4)
    assert second["incidents"] == []
    assert done.returncode == 1


def test_a_quiet_log_is_fine() -> None:
    done = gpuwatch("diagnose", str(QUIET))
    assert done.returncode == 0
    assert "No failure found" in done.stdout


def test_chinese_is_chinese() -> None:
    done = gpuwatch("diagnose", "--lang", "zh", str(OOM))
    assert "显存不足" in done.stdout
    assert "GPU memory ran out" not in done.stdout
    assert gpuwatch("diagnose", str(OOM), LANG="zh_CN.UTF-8").stdout == done.stdout


@pytest.fixture
def bad(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "empty.log").touch()
    (tmp_path / "binary.log").write_bytes(bytes(range(256)) * 64)
    return {
        "missing": tmp_path / "missing.log",
        "folder": tmp_path,
        "binary": tmp_path / "binary.log",
    }


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_an_input_that_cannot_be_read_is_named_and_the_others_are_read(kind: str, bad: dict[str, Path]) -> None:
    done = gpuwatch("diagnose", "--json", str(bad[kind]), str(OOM))
    assert done.returncode == 2
    assert bad[kind].name in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_an_empty_file_has_no_failure(bad: dict[str, Path]) -> None:
    done = gpuwatch("diagnose", "--json", str(bad["folder"] / "empty.log"))
    assert (done.returncode, json.loads(done.stdout)["bytes"]) == (0, 0)


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen(
        [*GPUWATCH, "diagnose", *[str(OOM)] * 100], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(1)
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 128 + signal.SIGPIPE


def test_a_broken_rule_is_shown_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("id: mine\nlabel: cuda_oomm\ntitle: {en: a, zh: 甲}\nseverity: error\n")
    done = gpuwatch("rules", "check", str(tmp_path))
    assert done.returncode == 2
    assert "mine.yaml:1" in done.stderr
    assert gpuwatch("diagnose", "--rules", str(tmp_path), str(OOM)).returncode == 2


def test_own_rules_are_laid_over_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "id: my-failure\nlabel: node_failed\ntitle: {en: Mine, zh: 我的}\nseverity: error\nwhy: {en: Because., zh: 因为。}\n"
        "match: 'my very own failure'\nexamples: {match: ['my very own failure'], ignore: ['no failure']}\n"
    )
    done = gpuwatch("diagnose", "--json", "--rules", str(tmp_path), "-", stdin=b"oh: my very own failure\n")
    assert [incident["rule"] for incident in json.loads(done.stdout)["incidents"]] == ["my-failure"]
    assert gpuwatch("rules", "test", str(tmp_path)).stdout.strip() == "2 passed, 0 failed"


def test_rules_are_listed_and_shown() -> None:
    assert "cuda-oom-native" in gpuwatch("rules", "list").stdout
    assert "CUDA out of memory" in gpuwatch("rules", "show", "cuda-oom-native").stdout
    done = gpuwatch("rules", "show", "cuda-oom-nativ")
    assert done.returncode == 2
    assert "cuda-oom-native" in done.stderr


def test_the_shipped_rules_pass_their_own_examples() -> None:
    done = gpuwatch("rules", "test")
    assert done.stdout.strip().endswith(" 0 failed"), done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["diagnose", "--help"],
        ["watch", "--help"],
        ["serve", "--help"],
        ["run", "ddcolor", "--help"],
        ["rules", "--help"],
        ["demo", "--help"],
    ],
)
def test_help_is_there_in_both_languages(words: list[str]) -> None:
    english, chinese = gpuwatch(*words), gpuwatch(*words, LANG="zh_CN.UTF-8")
    assert (english.returncode, chinese.returncode) == (0, 0)
    assert english.stdout != chinese.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["diagnose"],
        ["diagnose", "--no-such"],
        ["diagnose", "--gpu-memory", "much", "x"],
        ["diagnose", "--workers", "0", "x"],
        ["diagnose", "--workers", "100000", "x"],
        ["run", "ddcolor"],
        ["serve", "ftp://127.0.0.1:1"],
    ],
)
def test_wrong_use_is_two(words: list[str]) -> None:
    done = gpuwatch(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("gpuwatch: ")


def test_a_pipe_without_a_terminal_prints_diagnoses() -> None:
    done = gpuwatch(stdin=OOM.read_bytes())
    assert done.returncode == 0
    assert done.stdout.count("GPU memory ran out") == 4
    assert "got prompt" not in done.stdout


def test_escape_codes_of_a_log_are_shown_and_not_obeyed() -> None:
    done = gpuwatch(
        "diagnose", "-", stdin=b"CUDA out of memory. \x1b]0;owned\x07\x1b[31m[red]x[/red] \x9b31m \xe2\x80\xae\n"
    )
    assert not any(character in done.stdout for character in "\x1b\x07\x9b\u202e")
    assert "[red]x[/red]" in done.stdout


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    log = tmp_path / "comfyui.log"
    log.write_bytes(OOM.read_bytes())
    words = [*GPUWATCH, "serve", str(log), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as child:
        assert child.stderr is not None
        address = next(line for line in child.stderr if "metrics: " in line).partition("metrics: ")[2].strip()
        yield child, address, log
        child.kill()


def page(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - our own address
        body: str = answer.read().decode()
    return body


def test_serve_starts_at_the_end_counts_what_is_new_and_ends_when_told(
    server: tuple[subprocess.Popen[str], str, Path],
) -> None:
    child, address, log = server
    total = 'gpuwatch_incidents_total{label="cuda_oom",severity="error"}'
    assert f"{total} 0.0" in page(address)
    with log.open("ab") as file:
        file.write(OOM.read_bytes())
    assert child.stdout is not None
    printed = [child.stdout.readline() for _ in range(3)]
    assert "GPU memory ran out" in printed[0]
    for _ in range(1000):
        if f"{total} 4.0" in page(address):
            break
    assert f"{total} 4.0" in page(address)
    assert "gpuwatch_build_info" in page(address)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        page(address.replace("/metrics", "/other"))
    assert page(address.replace("/metrics", "/-/healthy")) == "ok\n"
    child.send_signal(signal.SIGTERM)
    child.stdout.read()
    assert child.wait(30) == 0


def test_a_taken_port_is_said(server: tuple[subprocess.Popen[str], str, Path]) -> None:
    _child, address, log = server
    port = address.rpartition(":")[2].partition("/")[0]
    done = gpuwatch("serve", str(log), "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 2
    assert port in done.stderr


@pytest.mark.parametrize("words", [["rules", "list"], ["diagnose", str(OOM)], ["diagnose", "--json", str(OOM)]])
@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(words: list[str], closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *GPUWATCH, *words], capture_output=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == (1 if "diagnose" in words else 0)
    assert (done.stdout, done.stderr) == (b"", b"")


@pytest.mark.parametrize("words", [["rules", "list"], ["diagnose", str(OOM)], ["diagnose", "--json", str(OOM)]])
def test_a_disk_that_is_full_is_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*GPUWATCH, *words], stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
        assert done.returncode == 4
        assert done.stderr == b"gpuwatch: the output cannot be written: No space left on device.\n"
        done = subprocess.run(
            [*GPUWATCH, "diagnose", "nothere"], stdout=full, stderr=full, env=ENVIRONMENT, check=False
        )
        assert done.returncode == 2


def test_sigterm_takes_away_what_a_verb_made_for_itself(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*GPUWATCH, "demo"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**ENVIRONMENT, "TMPDIR": str(tmp_path)},
    )
    with process:
        assert process.stderr is not None
        while not (children := psutil.Process(process.pid).children()):
            assert process.poll() is None
        process.terminate()
        assert process.wait(120) == 128 + signal.SIGTERM
        assert b"Traceback" not in process.stderr.read()
    _ended, left = psutil.wait_procs(children, timeout=120)
    assert left == []
    assert list(tmp_path.glob("gpuwatch-*")) == [], "what torch keeps there is its own"


@pytest.mark.parametrize(("before", "code"), [("SIG_DFL", 128 + signal.SIGHUP), ("SIG_IGN", 7)])
def test_a_lost_terminal_ends_a_verb_in_order_unless_nohup_asked_otherwise(before: str, code: int) -> None:
    script = (
        f"import signal, sys; signal.signal(signal.SIGHUP, signal.{before}); from gpuwatch.faces import cli; "
        "cli.end_in_order(); signal.raise_signal(signal.SIGHUP); sys.exit(7)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=120, check=False).returncode == code


def test_a_word_too_long_for_a_file_is_no_verb() -> None:
    done = gpuwatch("x" * 5000)
    assert done.returncode == 2
    assert "there is neither a verb nor a file called xxx" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", [["--help"], ["--version"], ["rules", "--help"], ["rules", "list"]])
def test_output_that_cannot_be_written_is_told_also_of_help(words: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*GPUWATCH, *words], stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT, check=False)
    assert done.returncode == 4
    assert done.stderr == b"gpuwatch: the output cannot be written: No space left on device.\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_words_that_nobody_can_read_change_no_exit_code() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*GPUWATCH, "diagnose", "/missing"], stderr=full, env=ENVIRONMENT, check=False)
    assert done.returncode == 2
