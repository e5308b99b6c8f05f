"""What a failure means and what helps, in numbers."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.advice import diagnose
from gpuwatch.core.balance import Balance, balance_of
from gpuwatch.core.case import Surroundings, case_of
from gpuwatch.core.diagnosis import Diagnosis, Fix
from gpuwatch.core.incidents import Frame, Incident, Node
from gpuwatch.core.observations import GpuProcess, GpuSample
from gpuwatch.core.planners import PLANNERS, fill
from gpuwatch.core.rules import ACTIONS, convert_fact, parse_bytes
from gpuwatch.core.workload import fits, largest_fitting_px, predict
from gpuwatch.texts import render, show_bytes
from tests.core.engine_log import Log

AT = datetime(2026, 11, 21, tzinfo=UTC)
GIB, MIB = 1 << 30, 1 << 20
RULES, WORKLOADS = load_rules(), load_workloads()
(DDCOLOR,) = (profile for profile in WORKLOADS.profiles if profile.id == "ddcolor")
SIX_GIB_CARD = {
    "tried_bytes": round(1.56 * GIB),
    "total_bytes": round(5.79 * GIB),
    "free_bytes": 640 * MIB,
    "process_in_use_bytes": round(5.10 * GIB),
    "allocated_bytes": round(4.37 * GIB),
    "reserved_unallocated_bytes": 338 * MIB,
}


def incident(facts: dict[str, Any], rule: str = "cuda-oom-native", **inputs: Any) -> Incident:
    node = Node("3", "DDColor_Colorize", "ComfyUI-DDColor", inputs)
    return Incident(
        "id", "log", RULES.by_id[rule], RULES.by_id[rule].label, "open", 1, "words", AT, AT, facts=facts, node=node
    )


def told(facts: dict[str, Any], around: Surroundings | None = None, **inputs: Any) -> Diagnosis:
    return diagnose(incident(facts, **inputs), around or Surroundings(WORKLOADS))


def fix(diagnosis: Diagnosis, action: str) -> Fix | None:
    return next((each for each in diagnosis.fixes if each.action == action), None)


def test_the_numbers_of_a_message_tell_size_network_and_a_size_that_fits() -> None:
    diagnosis = told(SIX_GIB_CARD)
    shrink = fix(diagnosis, "shrink_size")
    assert shrink is not None
    assert shrink.predicted is not None
    assert (shrink.params["from"], shrink.params["variant"], shrink.predicted.fits) == (1280, "large", "yes")
    assert shrink.params["to"] % 32 == 0
    assert 960 <= shrink.params["to"] < 1280
    assert shrink.predicted.peak_bytes <= SIX_GIB_CARD["total_bytes"]
    assert "1280" in render(diagnosis.cause)


def test_a_job_that_would_fit_alone_is_told_to_free_what_is_in_the_way() -> None:
    facts = {
        "total_bytes": 8 * GIB,
        "free_bytes": GIB,
        "allocated_bytes": 6 * GIB,
        "reserved_unallocated_bytes": GIB // 2,
        "tried_bytes": GIB,
    }
    diagnosis = told(facts, model_input_size=1024, checkpoint="ddcolor_paper_tiny.pth")
    assert diagnosis.fixes[0].action == "free_memory"
    assert fix(diagnosis, "shrink_size") is None
    assert "other models" in render(diagnosis.cause)


def test_the_tiny_checkpoint_is_offered_only_where_it_fits() -> None:
    facts = {
        "total_bytes": 8 * GIB,
        "free_bytes": 6 * GIB,
        "allocated_bytes": GIB,
        "reserved_unallocated_bytes": 0,
        "tried_bytes": GIB,
    }
    diagnosis = told(facts, model_input_size=1344, checkpoint="ddcolor_modelscope.pth")
    tiny = fix(diagnosis, "tiny_checkpoint")
    assert tiny is not None
    assert tiny.params["to"] == "ddcolor_paper_tiny.pth"
    assert fix(told(SIX_GIB_CARD), "tiny_checkpoint") is None


def test_no_precision_and_no_batch_is_ever_advised_for_the_stock_node() -> None:
    for facts in ({}, SIX_GIB_CARD):
        words = " ".join(render(each.title) + (each.command or "") for each in told(facts).fixes).lower()
        assert not any(word in words for word in ("fp16", "half", "precision", "lowvram", "batch"))


def test_without_sizes_the_card_on_the_command_line_gives_a_number() -> None:
    around = Surroundings(WORKLOADS, gpu_total_bytes=6 * GIB)
    shrink = fix(diagnose(incident({}, "cuda-oom-async-bare"), around), "shrink_size")
    assert shrink is not None
    assert shrink.predicted is not None
    assert shrink.predicted.peak_bytes <= 6 * GIB


def test_without_any_size_the_need_at_the_default_is_told_and_called_uncertain() -> None:
    shrink = fix(told({}), "shrink_size")
    assert shrink is not None
    assert shrink.predicted is not None
    assert (shrink.params["to"], shrink.predicted.fits) == (512, "uncertain")


@pytest.mark.parametrize(("was", "to"), [(300, 288), (720, 512), (512, 480), (64, 32), (1, 32)])
def test_without_a_card_the_size_that_is_told_can_run(was: int, to: int) -> None:
    shrink = fix(told({}, model_input_size=was, checkpoint="ddcolor_paper_tiny.pth"), "shrink_size")
    assert shrink is not None
    assert shrink.params["to"] == to
    assert fix(told({}, model_input_size=32, checkpoint="ddcolor_paper_tiny.pth"), "shrink_size") is None


def test_what_another_process_holds_is_named() -> None:
    facts = {**SIX_GIB_CARD, "process_in_use_bytes": 2 * GIB}
    gpu = GpuSample(AT, "GPU-1", 0, "card", processes=(GpuProcess(77, "game", 3 * GIB), GpuProcess(78, "python", GIB)))
    unload = fix(told(facts, Surroundings(WORKLOADS, gpu=gpu)), "unload_others")
    assert unload is not None
    assert unload.params == {"pid": 77}


def test_expandable_segments_only_where_idle_memory_would_have_been_enough() -> None:
    assert fix(told(SIX_GIB_CARD), "expandable_segments") is None
    assert fix(told({**SIX_GIB_CARD, "reserved_unallocated_bytes": 2 * GIB}), "expandable_segments") is not None


def test_a_request_larger_than_the_card_is_said_to_be() -> None:
    diagnosis = told({"tried_bytes": 225 * GIB, "total_bytes": 24 * GIB, "free_bytes": GIB})
    assert "at once" in render(diagnosis.cause)


def test_the_evidence_says_where_in_the_network_it_died() -> None:
    evidence = " ".join(render(line) for line in told(SIX_GIB_CARD).evidence)
    assert "decoder.last_shuf: avg_pool2d asks for when model_input_size is 1280" in evidence
    frames = (Frame("/opt/ComfyUI/custom_nodes/ComfyUI-DDColor/ddcolor/ddcolor_arch_utils/convnext.py", 90, "forward"),)
    elsewhere = replace(incident(SIX_GIB_CARD), frames=frames)
    assert case_of(elsewhere, Surroundings(WORKLOADS)).died is None


def test_what_others_hold_in_the_process_is_what_the_job_does_not_explain() -> None:
    held = {**SIX_GIB_CARD, "allocated_bytes": SIX_GIB_CARD["allocated_bytes"] + 2 * GIB, "total_bytes": 12 * GIB}
    case = case_of(incident(held, model_input_size=1280, checkpoint="ddcolor_modelscope.pth"), Surroundings(WORKLOADS))
    assert case.died is not None
    assert case.foreign_bytes == pytest.approx(2 * GIB, rel=0.03)


def test_several_jobs_that_agree_are_named() -> None:
    diagnosis = told({"tried_bytes": 128 * MIB, "total_bytes": 2 * GIB})
    assert any("agrees with several jobs: " in render(line) for line in diagnosis.evidence)


def test_the_largest_size_that_fits_fits_and_the_next_does_not_surely() -> None:
    for room in range(2 * GIB, 24 * GIB, 7 * GIB):
        side = largest_fitting_px(DDCOLOR, "large", room)
        if side is None:
            continue
        assert fits(predict(DDCOLOR, "large", side), room) == "yes"
        if side + 32 in DDCOLOR.sizes_px():
            assert fits(predict(DDCOLOR, "large", side + 32), room) != "yes"


def test_the_account_of_a_card_adds_up() -> None:
    balance = balance_of(SIX_GIB_CARD)
    parts = (balance.free_bytes, balance.reserved_bytes, balance.context_bytes, balance.others_bytes)
    assert sum(part or 0 for part in parts) == balance.total_bytes
    assert balance.room_bytes(0) == (balance.free_bytes or 0) + (balance.reserved_bytes or 0)
    assert Balance().room_bytes(0) is None


@pytest.mark.parametrize(
    ("printed", "count"),
    [
        (b"1.56 GiB", 1675037245), (b"640.00 MiB", 671088640), (b"7999376589", 7999376589), (b"0 bytes", 0), (b"20.00 KB", 20480),
        (b"17179869184.00 GiB", None), (b"many", None), (b"-1 MiB", None), (b"1.2.3 GiB", None), (b"0x1c000", 114688),
        (b"1900,00 MiB", 1992294400), (b"1,234 KiB", 1263616), (b"1,234.50 KiB", 1264128),
    ],
)  # fmt: skip
def test_sizes_are_read(printed: bytes, count: int | None) -> None:
    assert parse_bytes(printed) == count


@pytest.mark.parametrize("count", [0, 1, 1023, 1024, 10**6, 123456789, 5 * GIB + 7, 10**14])
def test_a_size_printed_and_read_back_is_within_one_percent(count: int) -> None:
    again = parse_bytes(show_bytes(count).encode())
    assert again is not None
    assert abs(again - count) <= 0.01 * count


def test_a_fact_has_the_type_that_its_name_says() -> None:
    assert convert_fact("gpu_index", b"3") == 3
    assert convert_fact("xids", b"31, 45") == [31, 45]
    assert convert_fact("node_id", b"320:283") == "320:283"
    assert convert_fact("tried_bytes", b"1 GiB") == GIB
    assert convert_fact("pid", b"<unknown>") is None
    assert convert_fact("step_seconds", b"0.1234567890123456789 s") == pytest.approx(0.12345678901234568)


@pytest.mark.parametrize("name", ["pid", "gpu_index", "xids", "tensor_shape", "step_seconds", "tried_bytes"])
def test_a_number_that_no_machine_means_is_no_fact(name: str) -> None:
    assert convert_fact(name, b"9" * 5000) is None


def test_a_log_whose_numbers_have_no_end_is_read() -> None:
    log = Log()
    log.say(f"NVRM: Xid (PCI:0000:08:00): 31, pid={'9' * 5000}, name=x, Ch 00000023\n")
    log.end()
    assert log.only.label == "xid"
    assert "pid" not in log.only.facts


def test_a_fact_that_reads_like_a_place_in_a_rules_command_is_words() -> None:
    facts = {"name": "{path}", "path": "; touch /tmp/was-run;"}
    command = fill("ls {name} {unknown}", facts)
    assert command == "ls '{path}' {unknown}"
    assert shlex.split(fill("ls {name} {path}", facts)) == ["ls", "{path}", "; touch /tmp/was-run;"]


def test_every_planner_is_a_known_action() -> None:
    assert PLANNERS.keys() <= set(ACTIONS)
