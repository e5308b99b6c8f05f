"""The journal as a person asks it: what happened, one of it in full, and packed without what identifies."""

from __future__ import annotations

import json
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest

from gpuwatch.adapters.journal.fixes import FixLedger
from gpuwatch.adapters.journal.writing import Journal
from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.core.engine import Engine
from gpuwatch.core.observations import FixTried, LogChunk
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.cli import main
from tests.adapters.test_journal import AT, events_of

SECRET = b"loading /home/anna/ComfyUI with HF_TOKEN=hf_abcdefghijklmnopqrstuvwx\n"


@pytest.fixture
def journal(tmp_path: Path) -> str:
    path = tmp_path / "journal.db"
    kept = Journal(path, print)
    events = events_of(
        SECRET + b"!!! Exception during processing !!! CUDA error: out of memory\nPrompt executed in 1.0 seconds\n"
    )
    kept(events, Snapshot())
    kept(events_of(b"RuntimeError: No CUDA GPUs are available\n", "other.log", days=-400), Snapshot())
    FixLedger(path, print).add(FixTried(AT, ids_of(events)[0], "shrink_size", "held"))
    kept.close()
    return str(path)


def ids_of(events: list) -> list[str]:  # type: ignore[type-arg]
    return [event.incident.id for event in events if hasattr(event, "incident")]


def test_it_is_listed_newest_first(journal: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "--journal", journal, "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [incident["label"] for incident in told] == ["cuda_oom", "no_cuda_device"]
    assert (told[0]["failures"], told[0]["source"]) == (1, "comfyui.log")
    assert main(["history", "--journal", journal, "--since", "2026-01-01"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert main(["history", "--journal", journal, "--label", "xid"]) == 0
    assert capsys.readouterr().out == ""


def test_one_is_shown_with_its_lines_and_what_was_tried(journal: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["history", "--journal", journal, "--json"])
    id_ = json.loads(capsys.readouterr().out.splitlines()[0])["id"]
    assert main(["incident", "show", id_[:6], "--journal", journal]) == 0
    page = capsys.readouterr().out
    assert "out of memory" in page
    assert "shrink_size held" in page
    assert "loading /home/anna" in page  # it is the person's own
    assert main(["incident", "show", id_, "--journal", journal, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tried"][0]["outcome"] == "held"


def test_the_same_lines_read_again_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "journal.db"
    for days in (-2, -1, 0):
        kept = Journal(path, print)
        kept(events_of(b"RuntimeError: CUDA error: out of memory\n", "stdin", days=days), Snapshot())
        kept.close()
    assert main(["history", "--journal", str(path)]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    id_ = names[0]
    assert names == [id_, f"{id_}~1", f"{id_}~2"]
    assert main(["history", "--journal", str(path), "--since", AT.date().isoformat(), "--json"]) == 0
    assert [json.loads(line)["newer"] for line in capsys.readouterr().out.splitlines()] == [0]
    for name, days in ((id_, 0), (f"{id_[:4]}~1", 1), (f"{id_}~2", 2)):
        assert main(["incident", "show", name, "--journal", str(path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["first_at"] == (AT - timedelta(days=days)).isoformat()
    for name in (f"{id_}~3", f"{id_}~", f"{id_}~-1", f"{id_}~one", "~1"):
        wanted = 0 if name == f"{id_}~" else 2
        assert main(["incident", "show", name, "--journal", str(path)]) == wanted
    assert f"there is no incident {id_}~3 in the journal" in capsys.readouterr().err


def test_what_is_packed_names_nobody(journal: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["history", "--journal", journal, "--json"])
    id_ = json.loads(capsys.readouterr().out.splitlines()[0])["id"]
    out = tmp_path / "report.zip"
    assert main(["incident", "export", id_, "--journal", journal, "--out", str(out)]) == 0
    assert "1 × home path" in capsys.readouterr().err.replace("2 ×", "1 ×")
    with zipfile.ZipFile(out) as bundle:
        words = b"".join(bundle.read(name) for name in bundle.namelist())
        assert sorted(bundle.namelist()) == [
            "diagnosis.txt", "incident.json", "log.txt", "scrubbed.json", "versions.json",
        ]  # fmt: skip
    assert b"out of memory" in words
    assert b"anna" not in words
    assert b"hf_abc" not in words
    assert main(["incident", "export", id_, "--journal", journal, "--out", str(out)]) == 2
    assert list(tmp_path.glob(".*part")) == []


@pytest.mark.parametrize(
    "words",
    [
        ["history", "--since", "soon"],
        ["history", "--since", "999999w"],
        ["history", "--label", "odd"],
        ["incident", "show", "zzzz"],
        ["incident", "show", ""],
    ],
)
def test_wrong_use_is_two(journal: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--journal", journal]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_no_journal_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "--journal", str(tmp_path / "none.db")]) == 2
    assert "there is no journal yet" in capsys.readouterr().err
    assert main(["history", "--journal", str(tmp_path)]) == 2
    assert "is a folder, not a journal" in capsys.readouterr().err


def test_the_lines_before_are_kept_where_they_are_wanted() -> None:
    engine = Engine(load_rules(), before_lines=2)
    engine.feed(LogChunk(AT, "log", b"one\ntwo\nthree\nRuntimeError: CUDA error: out of memory\n"))
    incident = [event.incident for event in engine.end(AT) if hasattr(event, "incident")][-1]
    assert incident.before == ("two", "three")
