"""Workflow files: read out of text and pictures, written whole, and put back; several hundred real ones stay as they are."""

from __future__ import annotations

import json
import resource
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.job_error import read_job_errors
from gpuwatch.adapters.node_knowledge import load_knowledge, read_object_info
from gpuwatch.adapters.workflow_file import parsed, read_workflow_file, undo, write_in_place, write_workflow
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.balance import Balance
from gpuwatch.core.workflow.changes import Card
from gpuwatch.core.workflow.nodes import LEVERS
from gpuwatch.core.workflow.places import Path as Place
from gpuwatch.core.workflow.places import edited, edited_text
from gpuwatch.core.workflow.plan import plan_fix
from gpuwatch.core.workflow.trouble import Trouble
from gpuwatch.errors import UsageError
from gpuwatch.texts import render
from tests.workflows import DATA, OURS, TEMPLATES, knowledge, many

NOW = datetime(2026, 11, 21, 5, 30, tzinfo=UTC)
GIB = 1 << 30
WORKFLOW = OURS[0].read_text()
FAILED = Balance(total_bytes=12 * GIB, free_bytes=GIB, tried_bytes=3 * GIB)
LIKELY = (
    "KSampler",
    "KSamplerAdvanced",
    "SamplerCustomAdvanced",
    "VAEDecode",
    "VAEDecodeTiled",
    "ImageUpscaleWithModel",
)


def differences(before: Any, after: Any, here: Place = ()) -> list[Place]:
    """Where two JSON values differ; keys and their order must be the same."""
    if isinstance(before, dict) and isinstance(after, dict):
        assert list(before) == list(after)
        return [place for key in before for place in differences(before[key], after[key], (*here, key))]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [place for number, (one, two) in pairs for place in differences(one, two, (*here, number))]
    return [] if before == after and type(before) is type(after) else [here]


def stays_and_changes_only_there(path: Path) -> int:
    """Read a file, write it back, patch it for every likely failure; how many patches there were."""
    file = read_workflow_file(str(path))
    assert edited_text(file.text, []).encode() == path.read_bytes()
    patches = 0
    for kind in LIKELY:
        if not file.workflow.of_type(kind):
            continue
        trouble = Trouble(node_type=kind, balance=FAILED)
        plan = plan_fix(file.workflow, [trouble], Card(12 * GIB), WORKLOADS, knowledge())
        assert plan.changes or plan.unfixable
        if not plan.changes:
            continue
        patches += 1
        text = edited_text(file.text, plan.edits)
        places = [edit.place for edit in plan.edits]
        assert sorted(map(str, differences(file.workflow.value, json.loads(text)))) == sorted(map(str, places))
        assert text.count("\n") == file.text.count("\n")
        assert parsed("again", text) == edited(file.workflow.value, plan.edits)
    return patches


WORKLOADS = load_workloads()


@pytest.mark.parametrize("path", [*OURS, *sorted(TEMPLATES.glob("*.json"))], ids=lambda path: path.name)
def test_a_workflow_reads_and_writes_back_and_a_patch_changes_the_named_values_alone(path: Path) -> None:
    stays_and_changes_only_there(path)


@pytest.mark.skipif(
    not many(), reason="no folder in GPUWATCH_WORKFLOWS, and no comfyui-workflow-templates-media-* with workflows"
)
def test_several_hundred_real_workflows_stay_and_change_only_where_named() -> None:
    patches = [stays_and_changes_only_there(path) for path in many()]
    assert sum(map(bool, patches)) > len(patches) / 3


# -- pictures --------------------------------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes(13)) + b"".join(chunks) + chunk(b"IEND", b"")


def webp(*texts: bytes) -> bytes:
    exif = b"Exif\0\0MM\0*" + b"\0".join(texts) + b"\0"
    exif += b"\0" * (len(exif) % 2)
    body = b"WEBP" + b"VP8L" + struct.pack("<I", 4) + b"abcd" + b"EXIF" + struct.pack("<I", len(exif)) + exif
    return b"RIFF" + struct.pack("<I", len(body)) + body


UI = json.dumps(json.loads((DATA / "ddcolor_modelscope_1280.ui.json").read_text()))


@pytest.mark.parametrize(
    ("content", "form"),
    [
        (png(chunk(b"tEXt", b"prompt\0" + WORKFLOW.encode())), "api"),
        (png(chunk(b"tEXt", b"prompt\0" + WORKFLOW.encode()), chunk(b"tEXt", b"workflow\0" + UI.encode())), "ui"),
        (png(chunk(b"zTXt", b"workflow\0\0" + zlib.compress(UI.encode()))), "ui"),
        (png(chunk(b"tEXt", b"notes\0{}"), chunk(b"iTXt", b"workflow\0\0\0\0\0" + UI.encode())), "ui"),
        (png(chunk(b"iTXt", b"workflow\0\1\0en\0w\0" + zlib.compress(UI.encode()))), "ui"),
        (webp(b"prompt:" + WORKFLOW.encode(), b"workflow:" + UI.encode()), "ui"),
        (webp(b"prompt:" + WORKFLOW.encode()), "api"),
    ],
)
def test_the_workflow_in_a_picture_is_read(tmp_path: Path, content: bytes, form: str) -> None:
    picture = tmp_path / "picture"
    picture.write_bytes(content)
    file = read_workflow_file(str(picture))
    assert (file.workflow.form, file.from_image) == (form, True)


@pytest.mark.parametrize(
    "content",
    [
        png(), png(chunk(b"tEXt", b"parameters\0a cat, Steps: 20")), png(chunk(b"zTXt", b"workflow\0\0broken")), webp(),
        png(chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"{" + b" " * (65 << 20)))), b"\xff\xd8\xff\xe0 a photo",
        png(chunk(b"tEXt", b"prompt\0{"))[:48],
    ],
)  # fmt: skip
def test_a_picture_without_a_workflow_is_said_to_be(tmp_path: Path, content: bytes) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(content)
    with pytest.raises(UsageError) as error:
        read_workflow_file(str(picture))
    assert "picture holds no workflow" in str(error.value)


# -- what is no workflow -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", ":1: is no ComfyUI workflow; it is no JSON"),
        (b"[[" * 100_000, "is nested too deep"),
        (b'{"a":' * 100_000, "is nested too deep"),
        (b"\xff\xfe{\0", "is not UTF-8"),
        (b"[1, 2]", "looks like a list"),
        (b'{"3": {"class_type": "A", "inputs": {}}, "3": {"class_type": "B", "inputs": {}}}', 'an object has 3 twice'),
        (b"9" * 5000, "is no JSON"),
        (b"<html>", "is no JSON"),
        (b"got prompt\nTraceback", "is no JSON"),
    ],
    ids=range(11),
)  # fmt: skip
def test_what_is_no_workflow_is_refused_with_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "workflow.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as error:
        read_workflow_file(str(path))
    assert words in str(error.value)


def test_a_huge_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(UsageError, match="larger than"):
        read_workflow_file(str(path))
    for wrong in (tmp_path, tmp_path / "nothing.json"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_workflow_file(str(wrong))


def test_numbers_that_are_none_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "workflow.json"
    path.write_text('{"1": {"class_type": "A", "inputs": {"x": NaN, "y": Infinity, "z": 1}}}')
    file = read_workflow_file(str(path))
    assert parsed("again", file.text) == file.workflow.value


# -- writing and putting back ----------------------------------------------------------------------------------------------


def test_writing_in_place_keeps_what_was_there_and_undo_puts_it_back(tmp_path: Path) -> None:
    path = tmp_path / "workflow.json"
    path.write_text("one")
    path.chmod(0o640)
    first = write_in_place(str(path), "two", NOW)
    second = write_in_place(str(path), "three", NOW)
    assert first != second
    assert (first.read_text(), second.read_text(), path.read_text()) == ("one", "two", "three")
    assert path.stat().st_mode & 0o777 == 0o640
    backup, undone = undo(str(path), NOW)
    assert (backup, path.read_text(), undone.read_text()) == (second, "two", "three")
    undo(str(path), NOW)
    assert path.read_text() == "one"
    with pytest.raises(UsageError, match="no backup"):
        undo(str(path), NOW)
    assert sorted(each.suffix for each in tmp_path.iterdir()) == [".json", ".undone", ".undone"]


def test_a_full_disk_leaves_no_part_of_a_backup_that_undo_would_take(tmp_path: Path) -> None:
    path = tmp_path / "workflow.json"
    path.write_bytes(b"1" * 4000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(UsageError, match="cannot be backed up"):
            write_in_place(str(path), "2", NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"1" * 4000


def test_a_link_is_followed_and_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("one")
    link.symlink_to(real)
    write_in_place(str(link), "two", NOW)
    assert link.is_symlink()
    assert real.read_text() == "two"


def test_a_place_that_cannot_be_written_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_workflow(str(tmp_path / "none" / "workflow.json"), "x")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        write_workflow(str(folder), "x")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


# -- failed jobs and what servers say of their nodes -----------------------------------------------------------------------

ERROR = {
    "prompt_id": "p", "node_id": "12:5", "node_type": "KSampler", "exception_type": "torch.OutOfMemoryError",
    "exception_message": "Allocation on device \nThis error means", "traceback": ["  File \"/c/nodes.py\", line 1, in f\n"],
    "current_inputs": {"seed": [1], "model": ["<object>"], "image": ["tensor([" + "0" * 900]},
}  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        ERROR,
        {"type": "execution_error", "data": ERROR},
        {"p": {"prompt": [], "status": {"messages": [["execution_start", {}], ["execution_error", ERROR]]}}},
        {"id": "p", "status": "failed", "execution_error": ERROR},
        {"method": "GET", "path": "/history/p", "body": {"p": {"status": {"messages": [["execution_error", ERROR]]}}}},
    ],
)
def test_a_failed_job_is_read_in_every_form_that_comfyui_gives_it(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(value))
    (error,) = read_job_errors(str(path))
    assert (error.node_id, error.node_type, error.inputs) == ("12:5", "KSampler", {"seed": 1})
    assert b"!!! Exception during processing !!! Allocation on device" in error.as_log()


@pytest.mark.parametrize(
    "content", ["{}", "[1]", "got prompt\n", '{"a":' * 5000, '{"exception_message": 5, "node_id": 1}', "\0"]
)
def test_what_is_no_failed_job_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "job.json"
    path.write_text(content)
    with pytest.raises(UsageError):
        read_job_errors(str(path))


@pytest.mark.parametrize("content", ["{}", "[]", "x", '{"KSampler": {"input": 5}}', '{"body": {}}'])
def test_what_is_no_object_info_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "info.json"
    path.write_text(content)
    with pytest.raises(UsageError):
        read_object_info(str(path))


def test_shipped_knowledge_has_an_order_for_every_bound_and_known_levers(tmp_path: Path) -> None:
    for known in knowledge().shipped.values():
        assert known.widgets is not None
        assert set(known.bounds) | set(known.levers) <= set(known.widgets)
        assert set(known.levers.values()) <= set(LEVERS)
        assert len(known.of_lever("width")) == len(known.of_lever("height"))
    (tmp_path / "wrong.yaml").write_text(
        "nodes: [A]\nwidgets: [x]\ninputs:\n  y: {min: 1, max: 2}\n  x: {is: lever, min: 0, max: 1}\n"
    )
    with pytest.raises(UsageError) as error:
        load_knowledge(tmp_path)
    assert "wrong.yaml:4: y is none of the widgets" in render(error.value.message)
