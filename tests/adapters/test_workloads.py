"""Workload files: the shipped ones, and what a wrong one is told."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.gpu.calibration import main as calibrate

from gpuwatch.adapters.located import Problem, read_documents
from gpuwatch.adapters.node_pack import FOLDER as FOLDER_OF_NODE
from gpuwatch.adapters.workload_files import calibrations_from, read_trace, workload_from
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.memory.calibration import pick
from gpuwatch.core.workload import Claim, WorkloadProfile, predict
from gpuwatch.errors import UsageError
from gpuwatch.shipped import shipped_folder
from gpuwatch.texts import render

FOLDER = shipped_folder("rules") / "workloads"
DDCOLOR = load_workloads().profiles[0]


def test_the_shipped_workloads_are_read() -> None:
    found = load_workloads()
    assert [profile.id for profile in found] == ["ddcolor", "ddcolor-gpuwatch"]
    assert [claim.id for claim in found.claimed] == ["sonic"]
    assert found.find("DDColor_Colorize", None) is found.find(None, "ComfyUI-DDColor") is found.named("ddcolor")
    assert found.named("flux") is None
    (sonic,) = found.claimed
    assert all("not measured" in render(words, "en") for words in sonic.claims)
    assert set(sonic.inputs) == {"min_resolution", "duration", "inference_steps"}


def test_our_own_node_says_in_which_form_it_runs() -> None:
    own = load_workloads().find("GpuwatchDDColor", None)
    assert own is not None
    assert own is load_workloads().find(None, FOLDER_OF_NODE)
    assert (own.dtype, own.rewrite, own.dtype_input and own.dtype_input.of({})) == ("fp32", "fold", ("fp32", "fp16"))
    other = own.with_inputs({"precision": "bf16", "low_memory": "off"})
    assert (other.dtype, other.rewrite) == ("bf16", "none")
    assert own.with_inputs({"precision": 7, "low_memory": "unknown"}) == own


def workload(changed: str, tmp_path: Path) -> WorkloadProfile | Claim:
    path = tmp_path / "w.yaml"
    path.write_text(changed, "utf-8")
    (document,) = read_documents(path, "w.yaml")
    return workload_from(document, FOLDER, tuple(DDCOLOR.calibrations))


@pytest.mark.parametrize(
    ("file", "before", "after", "words"),
    [
        ("gpuwatch-node", "default: fold", "default: folded", "needs a form"),
        ("gpuwatch-node", "fp16: [fp16]", "fp16: []", "needs a form"),
        ("gpuwatch-node", "default: auto", "standard: auto", "standard"),
        ("ddcolor", "kind: traced", "kind: guessed", "`guessed` is not known"),
        ("ddcolor", "kind: traced\n", "", "`kind` is missing"),
        ("ddcolor", "step_px: 32", "step_px: 0", "whole number from 1"),
        ("ddcolor", "step_px: 32", "step_size: 32", "is `step_px` meant"),
        ("ddcolor", "traces: data/ddcolor", "traces: [1]", "a string is wanted"),
        ("sonic", "inputs:", "input:", "is `inputs` meant"),
        ("sonic", "kind: claimed", "kind: traced", "is `size_input` meant"),
    ],
)
def test_a_wrong_profile_is_told_with_its_line(file: str, before: str, after: str, words: str, tmp_path: Path) -> None:
    shipped = (FOLDER / f"{file}.yaml").read_text("utf-8")
    assert before in shipped
    with pytest.raises(Problem) as found:
        workload(shipped.replace(before, after), tmp_path)
    assert words in render(found.value.as_text())
    assert "w.yaml:" in render(found.value.as_text())


def test_a_band_must_ascend(tmp_path: Path) -> None:
    shipped = (FOLDER / "data" / "calibration" / "documented.yaml").read_text("utf-8")
    path = tmp_path / "c.yaml"
    path.write_text(shipped.replace("low: 0.97, mid: 1.0", "low: 1.5, mid: 1.0"), "utf-8")
    (document,) = read_documents(path, "c.yaml")
    with pytest.raises(Problem):
        calibrations_from(document)


def test_a_damaged_trace_is_refused_and_names_its_file(tmp_path: Path) -> None:
    whole = next((FOLDER / "data" / "ddcolor").glob("tiny-fp32-none-one*")).read_bytes()
    wrong: dict[str, bytes] = {
        "empty": b"",
        "cut": whole[:-40],
        "plain": b"{}",
        "other": gzip.compress(json.dumps({"format": 1}).encode()),
        "deep": gzip.compress(b"[" * 200_000),
        "large": gzip.compress(b" " * (40 << 20)),
        "long": b"\0" * (2 << 20),
    }
    for name, content in wrong.items():
        path = tmp_path / f"{name}.json.gz"
        path.write_bytes(content)
        with pytest.raises(UsageError, match=f"{name}.json.gz"):
            read_trace(path)
    with pytest.raises(UsageError, match="nowhere"):
        read_trace(tmp_path / "nowhere.json.gz")


def test_a_name_cannot_lead_out_of_the_folder() -> None:
    assert DDCOLOR.traces.find("../../sonic", "fp32", "none", grad=False, many=False) is None


def test_a_run_on_a_card_becomes_a_calibration(tmp_path: Path) -> None:
    plain: dict[str, Any] = {
        "variant": "tiny", "dtype": "fp32", "rewrite": "none", "batch": 1, "grad": False, "cudnn_benchmark": False,
        "allocator": "native",
    }  # fmt: skip
    cases: list[dict[str, Any]] = [{"case": {"kind": "peaks"}, "error": "no"}]
    for side, ratio in ((256, 1.01), (512, 1.03), (768, 1.05)):
        need = predict(DDCOLOR, "tiny", side, arch="sm86")
        later = {
            "peak_reserved_bytes": need.reserved_bytes.mid * ratio,
            "peak_allocated_bytes": need.allocated_bytes * 1.002,
        }
        result = {"stations": {"later": later}, "beside_allocator_bytes": (400 + side // 16) << 20}
        cases.append({"case": {**plain, "kind": "memory", "size_px": side}, "result": result})
    budget = predict(DDCOLOR, "tiny", 512, arch="sm86").budget_bytes.mid
    cases.append(
        {"case": {**plain, "kind": "budget", "size_px": 512}, "result": {"smallest_budget_bytes": budget * 0.98}}
    )
    run = {"device": "a card", "compute_capability": "8.6", "torch": "2.13.0+cu130", "date": "today", "cases": cases}
    (tmp_path / "run.json").write_text(json.dumps(run), "utf-8")
    out = tmp_path / "made.yaml"
    assert calibrate([str(tmp_path / "run.json"), "--out", str(out)]) == 0
    (document,) = read_documents(out, "made.yaml")
    (made,) = calibrations_from(document)
    assert (made.arch, made.allocator, made.torch, made.measured) == ("sm86", "native", "2.13", True)
    assert made.reserved_ratio.mid == pytest.approx(1.03, abs=0.001)
    assert made.reserved_ratio.high == pytest.approx(1.05 * 1.01, abs=0.001)
    assert made.budget_ratio.low == pytest.approx(0.98 * 0.99, abs=0.001)
    assert made.context_bytes.mid == 432 << 20
    assert pick((*DDCOLOR.calibrations, made), "sm86", "native", "2.13.1") is made
    measured = replace(DDCOLOR, calibrations=(*DDCOLOR.calibrations, made))
    assert predict(measured, "tiny", 512, arch="sm86").context_bytes == made.context_bytes
    (tmp_path / "run.json").write_text(json.dumps({**run, "compute_capability": None}), "utf-8")
    with pytest.raises(SystemExit, match="no run on a GPU"):
        calibrate([str(tmp_path / "run.json")])
