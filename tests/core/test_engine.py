"""Observations in, incidents out: what is one failure, when it settles, when it clears, what is counted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwatch.core.events import RulesQuarantined
from gpuwatch.core.observations import LogRestarted
from gpuwatch.core.rules import Rule, RuleSet
from gpuwatch.texts import Text
from tests.core.engine_log import AT, DONE, HEAD, NATIVE, RULES, TRACE, Log, block


def test_head_traceback_last_line_and_oom_line_are_one_failure() -> None:
    log = Log()
    log.say(block(NATIVE) + DONE)
    assert (log.only.rule.id, log.only.count, log.only.state, log.counted) == ("cuda-oom-native", 1, "settled", 1)
    assert log.only.line == 1
    assert log.only.facts["tried_bytes"] == 2 << 30


@pytest.mark.parametrize("looked_at", [True, False])
def test_a_log_copied_from_a_page_that_keeps_its_spaces_together_tells_the_same(*, looked_at: bool) -> None:
    told = []
    for space in (" ", "\u00a0"):
        log = Log(looked_at=looked_at)
        log.say(("got prompt\n" * 3 + block(NATIVE) + DONE + "Prompt executed in 1.00 seconds\n").replace(" ", space))
        log.end()
        told.append((log.only.rule.id, log.only.line, log.only.state, log.only.facts, log.counted))
    assert told[0] == told[1]


def test_facts_on_the_lines_after_the_trigger_are_gathered() -> None:
    log = Log()
    log.say(
        HEAD
        + "Allocation on device 0 would exceed allowed memory. (out of memory)\nCurrently allocated     : 6.25 GiB\n"
        "Requested               : 4.00 GiB\nDevice limit            : 7.79 GiB\nFree (according to CUDA): 7.12 MiB\n"
        "PyTorch limit (set by user-supplied memory fraction)\n                        : 17179869184.00 GiB\n"
    )
    log.end()
    assert log.only.facts == {
        "gpu_index": 0,
        "allocated_bytes": 6710886400,
        "tried_bytes": 4294967296,
        "total_bytes": 8364448809,
        "free_bytes": 7465861,
    }


def test_prompts_that_fail_one_after_another_are_failures_of_their_own() -> None:
    log = Log()
    log.say((block(NATIVE) + DONE) * 3)
    assert [incident.count for incident in log.incidents.values()] == [1, 1, 1]
    assert log.counted == 3


def test_the_same_failure_again_and_again_without_an_end_is_one_incident_with_a_count() -> None:
    log = Log()
    log.say("RuntimeError: CUDA error: out of memory\n" * 500)
    log.end()
    assert (log.only.count, log.counted) == (500, 500)


def test_repeats_with_other_numbers_are_other_incidents() -> None:
    log = Log()
    log.say("CUDA out of memory. Tried to allocate 1.00 GiB\nCUDA out of memory. Tried to allocate 2.00 GiB\n")
    log.end()
    assert [incident.facts["tried_bytes"] for incident in log.incidents.values()] == [1 << 30, 2 << 30]
    assert log.counted == 2


def test_a_repeat_whose_later_lines_say_other_numbers_is_split_off() -> None:
    one = "Allocation on device 0 would exceed allowed memory. (out of memory)\nRequested               : {} GiB\n"
    log = Log()
    log.say(one.format("1.00") + one.format("2.00"))
    log.end()
    assert [incident.facts["tried_bytes"] for incident in log.incidents.values()] == [1 << 30, 2 << 30]
    assert (log.counted, [incident.count for incident in log.incidents.values()]) == (2, [1, 1])


def test_a_prompt_that_ends_well_clears_an_out_of_memory() -> None:
    log = Log()
    log.say(block(NATIVE) + DONE + "got prompt\n" + DONE)
    assert log.only.state == "cleared"


def test_an_interrupted_prompt_clears_nothing() -> None:
    log = Log()
    log.say(block(NATIVE) + DONE + "got prompt\nProcessing interrupted\n" + DONE)
    assert log.only.state == "settled"


def test_an_illegal_access_stands_until_the_server_is_restarted() -> None:
    log = Log()
    log.say(
        block("CUDA error: an illegal memory access was encountered", "RuntimeError") + DONE + "got prompt\n" + DONE
    )
    assert log.only.state == "settled"
    log.say("Total VRAM 24106 MB, total RAM 24106 MB\n")
    assert log.only.state == "cleared"


def test_a_program_that_copes_has_recovered() -> None:
    log = Log()
    log.say("Warning: Ran out of memory when regular VAE decoding, retrying with tiled VAE decoding.\n" + DONE)
    assert (log.only.label, log.only.state, log.only.severity) == ("oom_recovered", "recovered", "warning")


def test_an_unknown_failure_is_a_node_failure_and_a_known_one_is_not_both() -> None:
    log = Log()
    log.say(HEAD + "list index out of range\n" + TRACE + "IndexError: list index out of range\n" + DONE)
    assert log.only.rule.id == "comfyui-node-failed"


def test_a_node_failure_is_held_back_until_it_cannot_be_a_known_one() -> None:
    log = Log()
    log.say(HEAD + "odd\n")
    assert not log.incidents
    log.wait(1)
    assert log.only.label == "node_failed"


def test_a_loss_that_is_nan_is_told_by_its_bar_alone() -> None:
    bar = "\rsteps:  {}%|██        | {}/1600 [10:12<41:31,  1.96s/it, avr_loss={}]"
    for looked_at in (True, False):
        log = Log(looked_at=looked_at)
        log.say("".join(bar.format(step, step * 16, "0.1" if step < 50 else "nan") for step in range(1, 99)) + "\n")
        log.end()
        assert (log.only.label, log.only.count) == ("nan_output", 1)


def test_numbers_are_read_where_a_console_wrapped_and_indented_the_message() -> None:
    log = Log()
    log.say(
        "10:00:00-123456 ERROR    Decode: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of\n"
        "                         8.00 GiB of which 1.00 GiB is free. Of the allocated memory 6.00 GiB is allocated by\n"
        "                         PyTorch, and 512.00 MiB is reserved by PyTorch but unallocated.\n"
    )
    log.end()
    facts = log.only.facts
    assert (facts["total_bytes"], facts["free_bytes"], facts["allocated_bytes"]) == (8 << 30, 1 << 30, 6 << 30)


def test_history_is_shown_and_not_counted() -> None:
    log = Log()
    log.say(block(NATIVE) + DONE, fresh=False)
    assert log.only.state == "settled"
    assert log.counted == 0


def test_a_restarted_log_counts_its_lines_anew() -> None:
    log = Log()
    log.say("one\ntwo\n" + block(NATIVE) + DONE)
    log.take(log.engine.feed(LogRestarted(AT, "log")))
    log.say(block(NATIVE) + DONE)
    assert [incident.line for incident in log.incidents.values()] == [3, 1]


def test_quiet_settles_and_a_half_line_is_read_in_the_end() -> None:
    log = Log()
    log.say("RuntimeError: CUDA error: out of memory")
    assert not log.incidents
    log.wait(1)
    assert log.only.state == "open"
    log.wait(60)
    assert log.only.state == "settled"


def test_the_same_log_read_again_gives_the_same_ids() -> None:
    first, second = Log(), Log()
    for log in (first, second):
        log.say(block(NATIVE) + DONE)
    assert first.incidents.keys() == second.incidents.keys()


def test_a_rule_that_takes_too_long_is_set_aside_and_the_others_go_on() -> None:
    slow = Rule("slow", "node_failed", Text("slow", zh="慢"), "error", Text("why", zh="因"), match=(rb"(?:a|aa)+$",))
    log = Log(RuleSet((slow, *RULES)))
    for _ in range(4):
        log.say("a" * 60 + "b\n")
    log.say(block(NATIVE) + DONE)
    assert any(isinstance(event, RulesQuarantined) and event.rule_ids == {"slow"} for event in log.events)
    assert log.only.label == "cuda_oom"


LINES = [
    block(NATIVE),
    DONE,
    "got prompt\n",
    HEAD + "odd\n",
    TRACE,
    "ValueError: odd\n",
    "CUDA out of memory. Tried to allocate 1.00 GiB\n",
    "RuntimeError: CUDA error: out of memory\n",
    "Allocation on device 0 would exceed allowed memory. (out of memory)\n",
    "Requested               : 4.00 GiB\n",
    "Got an OOM, unloading all loaded models.\n",
    "Processing interrupted\n",
    "\n",
    "CUDA error: an illegal memory access was encountered\n",
    "Total VRAM 24106 MB, total RAM 24106 MB\n",
    "filler\n" * 60,
    "Warning: Ran out of memory when regular VAE decoding, retrying with tiled VAE decoding.\n",
    "\r  8%|x  | 1/12 [00:00<00:01,  6.65it/s]",
    "Failed to validate prompt for output 3:\n* ImageScale 2:\n",
    "NVRM: Xid (PCI:0000:08:00): 31, pid=1, name=x, Ch 00000023\n",
    "NVRM: Xid (PCI:0000:09:00): 31, pid=1, name=x, Ch 00000023\n",
    "|  PyTorch CUDA memory summary, device ID 1  |\n|---|\n|  CUDA OOMs: 2  |  cudaMalloc retries: 3  |\n",
    "\n" * 40,
    "During handling of the above exception, another exception occurred:\n",
    "Exception in thread Thread-1 (prompt_worker):\n",
    "KSampler\n",
    "0cb1a334 Fix CUDA error: out of memory (#12)\n",
    "Note: CUDA error: misaligned address\n",
    "steps:  20%|x  | 320/1600 [10:12<41:31,  1.96s/it, avr_loss=nan]\r",
    '  "node_type": "VAEDecode",\n  "exception_message": "Allocation on device ",\n',
]


@pytest.mark.parametrize("looked_at", [True, False], ids=["every line is read", "what tells nothing is left out"])
@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=25), st.lists(st.integers(0, 6000), max_size=10))
def test_cutting_anywhere_gives_the_same_incidents(looked_at: bool, lines: list[str], places: list[int]) -> None:
    whole, pieces = Log(), Log(looked_at=looked_at)
    data = "".join(lines)
    whole.say(data)
    start = 0
    for place in sorted(min(place, len(data)) for place in places):
        pieces.say(data[start:place])
        start = place
    pieces.say(data[start:])
    for log in (whole, pieces):
        log.end()
    told = [
        {i.id: (i.rule.id, i.count, i.state, i.line, dict(i.facts), i.node) for i in log.incidents.values()}
        for log in (whole, pieces)
    ]
    assert told[0] == told[1]
    assert whole.counted == pieces.counted == sum(incident.count for incident in whole.incidents.values())
    assert all(incident.state != "open" and incident.count >= 1 for incident in whole.incidents.values())


def xid(pci: str, number: int) -> str:
    return f"NVRM: Xid (PCI:{pci}): {number}, pid=77, name=python, Ch 00000008\n"


def test_xids_of_one_gpu_are_one_incident_also_when_two_gpus_speak_in_turn() -> None:
    log = Log()
    log.say(
        xid("0000:dc:00", 45)
        + xid("0000:ed:00", 45)
        + xid("0000:dc:00", 31)
        + xid("0000:ed:00", 13)
        + xid("0000:dc:00", 45)
    )
    log.end()
    assert {incident.facts["pci"]: incident.facts["xids"] for incident in log.incidents.values()} == {
        "0000:dc:00": [45, 31],
        "0000:ed:00": [45, 13],
    }
    assert log.counted == 2


def test_assertion_lines_before_the_head_are_of_its_failure() -> None:
    line = "/pytorch/aten/src/ATen/native/cuda/Indexing.cu:1422: op(): block: [3,0,0], thread: [{},0,0] Assertion `i < n` failed.\n"
    log = Log()
    log.say(
        "".join(line.format(n) for n in range(64))
        + block("CUDA error: device-side assert triggered", "RuntimeError")
        + DONE
    )
    assert (log.only.label, log.only.count, log.only.line) == ("device_side_assert", 1, 1)


def test_two_rejected_prompts_are_two() -> None:
    log = Log()
    log.say("got prompt\nFailed to validate prompt for output 3:\n* ImageScale 2:\n" * 2)
    log.end()
    assert log.counted == 2


def test_a_failure_after_a_failed_recovery_is_a_failure() -> None:
    log = Log()
    log.say(
        "Warning: Ran out of memory when regular VAE decoding, retrying with tiled VAE decoding.\n"
        + block(NATIVE)
        + DONE
    )
    assert "cuda_oom" in {incident.label for incident in log.incidents.values() if incident.state == "settled"}


def test_a_download_that_is_tried_again_is_no_failure_until_it_gives_up() -> None:
    broke = "Error while downloading from https://cdn.example/odd: Read timed out.\n"
    log = Log()
    log.say(f"{broke}Trying to resume download...\n{broke}Trying to resume download...\n")
    assert {(i.severity, i.state) for i in log.incidents.values()} == {("warning", "recovered")}
    log.say(broke + "got prompt\n")
    log.end()
    assert [i.severity for i in log.incidents.values()][-1] == "error"


def test_failures_that_never_end_are_let_go_and_each_is_counted() -> None:
    log = Log(looked_at=False)
    log.say("".join(f"CUDA out of memory. Tried to allocate {number}.00 MiB\n" for number in range(1, 2501)))
    assert len(log.engine._logs["log"]._failures.standing.live) <= 1000
    log.end()
    assert (len(log.incidents), log.counted) == (2500, 2500)
    assert {incident.state for incident in log.incidents.values()} == {"settled"}


def test_a_line_that_tells_the_end_clears() -> None:
    ends = Rule(
        "ends",
        "node_failed",
        Text("t", zh="题"),
        "error",
        Text("w", zh="因"),
        match=(b"thing broke",),
        clear_match=b"thing mended",
    )
    for looked_at in (True, False):
        log = Log(RuleSet((ends,)), looked_at=looked_at)
        log.say("thing broke\n" + "filler\n" * 200 + "thing mended\n")
        assert log.only.state == "cleared"
