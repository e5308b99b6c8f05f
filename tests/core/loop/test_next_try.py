"""What is tried next on a prompt that ran out of memory, and when nothing is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest

from gpuwatch.adapters.node_knowledge import with_object_info
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.balance import Balance
from gpuwatch.core.diagnosis import Fix
from gpuwatch.core.loop.next_try import Conditions, Failed, GiveUp, Lineage, Retry
from gpuwatch.core.loop.tried import Scene, Tried, as_json, from_json, values_of
from gpuwatch.core.observations import FixTried
from gpuwatch.core.workflow.changes import Card
from gpuwatch.core.workflow.trouble import Trouble
from gpuwatch.core.workload import fits, predict
from gpuwatch.core.workloads import Workloads
from gpuwatch.texts import plain, render
from tests.standin.prompts import LARGE, workflow
from tests.workflows import knowledge

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
GIB = 1 << 30
NODE = "DDColor_Colorize"


@cache
def workloads() -> Workloads:
    return load_workloads()


def conditions(card_bytes: int = 6 * GIB, **more: Any) -> Conditions:
    return Conditions("host:8188", Card(card_bytes), workloads(), more.pop("knowledge", knowledge()), AT, **more)


def failed(side_px: int = 1280, prompt: dict[str, Any] | None = None) -> Failed:
    trouble = Trouble("3", NODE, inputs={"model_input_size": side_px, "checkpoint": LARGE, "seed": 5})
    return Failed(prompt or workflow(side_px), (trouble,))


def side_of(retry: Retry | GiveUp) -> int:
    assert isinstance(retry, Retry), retry
    return int(retry.prompt["3"]["inputs"]["model_input_size"])


def told(retry: Retry, outcome: Any, at: datetime = AT) -> FixTried:
    scene = retry.scene
    return FixTried(
        at, "i", retry.action, outcome, scene.server, scene.node_type, dict(scene.values), dict(retry.after)
    )


def test_the_first_try_is_the_largest_size_that_surely_fits() -> None:
    retry = Lineage().next(failed(), conditions())
    assert isinstance(retry, Retry)
    assert (retry.action, retry.frees, retry.plan.fits) == ("shrink_size", False, "yes")
    side = side_of(retry)
    assert 512 < side < 1280
    assert side % 32 == 0
    assert retry.prompt["1"] == workflow(1280)["1"]
    profile = workloads().named("ddcolor")
    assert profile is not None
    room = 6 * GIB - profile.context_bytes.high
    assert fits(predict(profile, "large", side), room) == "yes"
    assert fits(predict(profile, "large", side + 32), room) != "yes"


def test_what_failed_against_the_prediction_is_freed_for_then_made_smaller_and_never_tried_twice() -> None:
    lineage, now, seen = Lineage(), failed(), []
    for _ in range(20):
        retry = lineage.next(now, conditions(most_tries=20))
        if isinstance(retry, GiveUp):
            break
        seen.append((retry.action, side_of(retry), retry.digest))
        lineage = lineage.after(now, retry)
        now = failed(side_of(retry))
    assert len({digest for *_, digest in seen}) == len(seen) > 4
    sides = [side for _, side, _ in seen]
    assert sides == sorted(sides, reverse=True)
    assert [action for action, *_ in seen][:3] == ["shrink_size", "free_memory", "shrink_size"]
    assert sides[0] == sides[1] > sides[2]


def test_what_held_is_not_offered_again_nor_anything_smaller() -> None:
    gone = Lineage(held="shrink_size").next(failed(), conditions())
    assert isinstance(gone, GiveUp)
    assert "no other way" in render(gone.why)
    ours = conditions(knowledge=with_object_info(knowledge(), OURS, complete=False))
    kept = Lineage(held="shrink_size").next(failed(), ours)
    assert isinstance(kept, Retry)
    assert kept.action == "switch_node"
    freed = Lineage(held="free_memory").next(failed(), conditions(24 * GIB))
    assert isinstance(freed, GiveUp)
    assert isinstance(Lineage(held="free_memory").after(failed(), kept).next(failed(), conditions()), Retry)


def test_a_job_is_tried_no_more_often_than_asked() -> None:
    lineage, now = Lineage(), failed()
    for _ in range(2):
        retry = lineage.next(now, conditions(most_tries=2))
        assert isinstance(retry, Retry)
        lineage, now = lineage.after(now, retry), failed(side_of(retry))
    gone = lineage.next(now, conditions(most_tries=2))
    assert isinstance(gone, GiveUp)
    assert "2 tries" in render(gone.why)


def test_no_side_is_set_below_the_least_that_is_wanted() -> None:
    gone = Lineage().next(failed(), conditions(min_px=1200))
    assert isinstance(gone, GiveUp)
    assert "1200" in render(gone.why)
    assert side_of(Lineage().next(failed(), conditions(min_px=512))) >= 512


def test_a_prompt_that_fits_by_itself_is_queued_again_once_memory_is_freed() -> None:
    retry = Lineage().next(failed(), conditions(24 * GIB))
    assert isinstance(retry, Retry)
    assert retry.frees
    assert retry.prompt == workflow(1280)


OURS = {
    "GpuwatchDDColor": {
        "input": {
            "required": {
                "image": ["IMAGE"],
                "model_input_size": ["INT", {"default": 512, "min": 32, "max": 4096, "step": 32}],
                "checkpoint": [[LARGE], {}],
            },
            "optional": {"precision": [["auto", "fp32"], {}], "low_memory": [["fold", "tail", "off"], {}]},
        }
    }
}


def test_a_server_with_the_rewriting_node_keeps_the_picture() -> None:
    known = with_object_info(knowledge(), OURS, complete=False)
    retry = Lineage().next(failed(), conditions(knowledge=known))
    assert isinstance(retry, Retry)
    assert retry.action == "switch_node"
    node = retry.prompt["3"]
    assert node["class_type"] == "GpuwatchDDColor"
    assert node["inputs"] == {**workflow(1280)["3"]["inputs"], "low_memory": "fold"}
    assert node["_meta"] == workflow(1280)["3"]["_meta"]
    lineage = Lineage().after(failed(), retry)
    again = Failed(retry.prompt, (Trouble("3", "GpuwatchDDColor", inputs={"model_input_size": 1280}),))
    smaller = lineage.next(again, conditions(knowledge=known))
    assert side_of(smaller) < 1280
    assert isinstance(smaller, Retry)
    assert smaller.prompt["3"]["class_type"] == NODE


def test_a_fix_that_failed_here_is_not_the_first_again_and_elsewhere_it_is() -> None:
    first = Lineage().next(failed(), conditions())
    assert isinstance(first, Retry)
    tried = Tried().after(told(first, "applied")).after(told(first, "failed"))
    second = Lineage().next(failed(), conditions(tried=tried))
    assert side_of(second) < side_of(first)
    elsewhere = Lineage().next(failed(), replace(conditions(tried=tried), server="other:8188"))
    assert side_of(elsewhere) == side_of(first)
    later = Lineage().next(failed(), replace(conditions(tried=tried), at=AT + timedelta(days=30)))
    assert side_of(later) == side_of(first)
    held = tried.after(told(first, "held", AT + timedelta(hours=1)))
    assert side_of(Lineage().next(failed(), conditions(tried=held))) == side_of(first)


def test_a_failure_of_another_kind_is_left_alone() -> None:
    gone = Lineage().next(Failed(workflow(), ()), conditions())
    assert isinstance(gone, GiveUp)


@pytest.mark.parametrize("checkpoint", ["nobody_knows.pth", None])
def test_an_unknown_network_is_taken_for_the_larger(checkpoint: str | None) -> None:
    prompt = workflow(1280)
    prompt["3"]["inputs"]["checkpoint"] = checkpoint
    assert side_of(Lineage().next(failed(1280, prompt), conditions())) == side_of(
        Lineage().next(failed(), conditions())
    )


def test_an_unknown_node_without_numbers_is_given_up_with_a_reason() -> None:
    prompt = {"7": {"class_type": "Mystery", "inputs": {"words": "x"}}, "9": {"class_type": "SaveImage", "inputs": {}}}
    gone = Lineage().next(Failed(prompt, (Trouble("7", "Mystery"),)), conditions())
    assert isinstance(gone, GiveUp)
    assert render(gone.why)


def test_a_sampler_asks_for_less_each_time() -> None:
    prompt = {
        "1": {"class_type": "EmptyLatentImage", "inputs": {"width": 2048, "height": 2048, "batch_size": 1}},
        "2": {"class_type": "KSampler", "inputs": {"latent_image": ["1", 0], "seed": 4, "steps": 20}},
    }
    balance = Balance(total_bytes=6 * GIB, tried_bytes=2 * GIB, free_bytes=GIB)
    lineage, sides = Lineage(), []
    for _ in range(3):
        now = Failed(prompt, (Trouble("2", "KSampler", balance=balance),))
        retry = lineage.next(now, conditions())
        assert isinstance(retry, Retry)
        assert (retry.action, retry.plan.fits) == ("shrink_size", "uncertain")
        lineage, prompt = lineage.after(now, retry), dict(retry.prompt)
        sides.append(prompt["1"]["inputs"]["width"])
    assert 2048 > sides[0] > sides[1] > sides[2]
    assert isinstance(lineage.next(Failed(prompt, now.troubles), conditions()), GiveUp)


def test_fixes_that_failed_here_stand_behind_the_others() -> None:
    small, free = Fix("shrink_size", plain("a"), params={"to": 864}), Fix("free_memory", plain("b"))
    attempt = FixTried(
        AT, "i", "shrink_size", "failed", "h", NODE, {"model_input_size": 1280}, {"model_input_size": 864}
    )
    tried = Tried().after(attempt)
    assert tried.ordered([small, free], "h", NODE, AT) == (free, small)
    assert tried.ordered([small, free], "h", "Other", AT) == (small, free)
    other = Fix("shrink_size", plain("c"), params={"to": 640})
    assert tried.ordered([other, free], "h", NODE, AT) == (other, free)


def test_what_was_tried_survives_a_file_and_nonsense_in_it() -> None:
    tried = Tried()
    for side in range(600):
        tried = tried.after(FixTried(AT, "i", "shrink_size", "failed", "h", NODE, {}, {"model_input_size": side}))
    assert len(tried.attempts) == 500
    kept = from_json([*as_json(tried)[1:], None, 3, {"server": 1}, {**as_json(tried)[0], "at": "yesterday"}])
    assert kept.attempts == tried.attempts[4:]
    assert from_json({"a": 1}) == from_json(None) == Tried()


def test_only_plain_values_are_remembered() -> None:
    assert values_of({"a": 1, "noise_seed": 2, "t": "x" * 999, "l": [1], "n": float("nan")}) == (("a", 1),)
    assert Scene("s", "n").values == ()
