"""What another program, a file or a name says is shown and never obeyed: no escape code reaches the terminal, no markup is read.

Every verb that prints what it was given is given a title escape, a bell, a bidi override, an 8-bit control and rich's markup.
"""

from __future__ import annotations

import io
import json
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from gpuwatch.adapters.recording import write_recording
from gpuwatch.core.observations import JobEnded, LogChunk, ServerSeen
from gpuwatch.faces import cli
from tests.core.cases import AT

HOSTILE = "\x1b]0;owned\x07\x9b31m\u202e[red]\x7f"
FAILED = f"!!! Exception during processing !!! {HOSTILE}CUDA out of memory. Tried to allocate 1.56 GiB{HOSTILE}\n"
RULE = {
    "id": "hostile-rule",
    "label": "node_failed",
    "title": {"en": f"title {HOSTILE}", "zh": f"标题 {HOSTILE}"},
    "severity": "error",
    "why": {"en": f"why {HOSTILE}", "zh": f"原因 {HOSTILE}"},
    "match": ["the flux capacitor ran dry"],
    "references": [f"https://example.com/{HOSTILE}"],
    "fixes": [
        {"action": "install", "title": {"en": f"do {HOSTILE}", "zh": f"做 {HOSTILE}"}, "command": f"echo {HOSTILE}"}
    ],
    "examples": {"match": ["the flux capacitor ran dry"], "ignore": ["all is well"]},
}
TRACE = {
    "traceEvents": [
        {"ph": "X", "cat": "cpu_op", "name": f"aten::{HOSTILE}", "pid": HOSTILE, "tid": HOSTILE, "ts": 1, "dur": 5},
        {"ph": "X", "cat": "kernel", "name": f"k{HOSTILE}", "pid": 0, "tid": 7, "ts": 2, "dur": 3},
        {"ph": "X", "cat": "user_annotation", "name": f"stage {HOSTILE}", "pid": HOSTILE, "tid": 1, "ts": 0, "dur": 9},
    ]
}
WORKFLOW = {
    "3": {"class_type": "DDColor_Colorize", "inputs": {"model_input_size": 2048, "checkpoint": "ddcolor_paper.pth", HOSTILE: 1}},
    HOSTILE: {"class_type": f"Node{HOSTILE}", "inputs": {"image": ["3", 0]}},
}  # fmt: skip

Case = Callable[[Path], list[str]]


def rules(*words: str) -> Case:
    def given(folder: Path) -> list[str]:
        (folder / "own.yaml").write_text(json.dumps(RULE))  # JSON is YAML, and writes every control as an escape
        return ["rules", *words, str(folder)]

    return given


def file_for(name: str, content: bytes, *words: str) -> Case:
    def given(folder: Path) -> list[str]:
        path = folder / name
        path.write_bytes(content)
        return [*words, str(path)]

    return given


def diagnose_with_rule(folder: Path) -> list[str]:
    (folder / "own.yaml").write_text(json.dumps(RULE))
    (folder / "a.log").write_text(f"the flux capacitor ran dry {HOSTILE}\n")
    (folder / "b.log").write_text(FAILED)
    return ["diagnose", "--rules", str(folder), str(folder / "a.log"), str(folder / "b.log"), str(folder / "gone")]


def fix_by_log(folder: Path) -> list[str]:
    (folder / "a.log").write_text(FAILED)
    (folder / "workflow.json").write_text(json.dumps(WORKFLOW))
    return ["fix", str(folder / "workflow.json"), "--log", str(folder / "a.log"), "--gpu-memory", "4GiB"]


def replay(folder: Path) -> list[str]:
    path = folder / "session.jsonl"
    server = f"host{HOSTILE}:8188"
    write_recording(
        path,
        [
            (0.0, ServerSeen(AT, server, f"0.24{HOSTILE}", (f"main.py{HOSTILE}",), "cuda:0", 8 << 30, 1)),
            (0.1, LogChunk(AT, f"log{HOSTILE}", FAILED.encode())),
            (
                0.2,
                JobEnded(
                    AT, server, f"id{HOSTILE}", "error", f"4{HOSTILE}", f"Node{HOSTILE}", f"Error{HOSTILE}", HOSTILE
                ),
            ),
        ],
        made_from=HOSTILE,
    )
    return ["replay", str(path), "--plain", "--speed", "max"]


def mute(folder: Path) -> list[str]:
    del folder
    return ["rules", "mute", "--pattern", "x", "--source", f"a{HOSTILE}", "--note", f"b{HOSTILE}"]


def safetensors() -> bytes:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({f"name{HOSTILE}": entry, "__metadata__": {f"key{HOSTILE}": HOSTILE}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * 4


CASES: dict[str, Case] = {
    "rules list": rules("list", "--rules"),
    "rules show": rules("show", "hostile-rule", "--rules"),
    "rules check": rules("check"),
    "rules test": rules("test"),
    "rules new": lambda folder: ["rules", "new", "my-rule", "--out", str(folder)],
    "rules mute": mute,
    "diagnose": diagnose_with_rule,
    "fix": fix_by_log,
    "fix no workflow": file_for("a.json", json.dumps({HOSTILE: HOSTILE}).encode(), "fix", "--gpu-memory", "4GiB"),
    "trace summary": file_for("trace.json", json.dumps(TRACE).encode(), "trace", "summary"),
    "trace memory": file_for("trace.json", json.dumps(TRACE).encode(), "trace", "memory"),
    "checkpoint": file_for("weights.safetensors", safetensors(), "checkpoint", "inspect"),
    "replay": replay,
    "replay of what is none": file_for("a.jsonl", json.dumps({HOSTILE: 1}).encode(), "replay", "--plain"),
    "dashboards export": lambda folder: ["dashboards", "export", str(folder / "out")],
    "dashboards check": file_for("x", b"", "dashboards", "check"),
    "node status": lambda folder: ["node", "status", str(folder)],
    "incident": lambda _folder: ["incident", "show", HOSTILE],
    "history": lambda folder: ["history", "--journal", str(folder / "journal.db")],
    "no verb": lambda _folder: [HOSTILE],
    "no option": lambda _folder: ["diagnose", f"--{HOSTILE}"],
    "no address": lambda _folder: ["guard", f"http://127.0.0.1:1/{HOSTILE}", "--yes", "--no-journal"],
    "no size": lambda _folder: ["fit", "ddcolor", "--gpu-memory", HOSTILE],
    "no checkpoint": lambda _folder: ["checkpoint", "get", HOSTILE],
}
UNTOLD = {"rules check", "rules test", "rules mute", "fix", "incident", "no option"}
"""Those whose words name nothing of it."""


@pytest.mark.parametrize("case", CASES)
def test_what_is_shown_is_not_obeyed(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    folder = tmp_path / f"folder {HOSTILE.replace('/', '')}"
    folder.mkdir()
    cli.main(CASES[case](folder))
    told = capsys.readouterr()
    words = told.out + told.err
    assert words.strip()
    odd = {character for character in words if unicodedata.category(character) in {"Cc", "Cf"} and character != "\n"}
    assert odd == set()
    assert "Traceback (most recent call last)" not in words
    assert ("owned" in words and "[red]" in words) == (case not in UNTOLD)
