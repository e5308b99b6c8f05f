"""A message turned round: the job it is of, where it died, and several where it cannot be told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.case import Surroundings, case_of
from gpuwatch.core.incidents import Incident
from gpuwatch.core.memory.inverse import Answer, agrees, candidates_of, rounding_of
from gpuwatch.core.memory.simulate import Failure, Settings, Size, simulate
from gpuwatch.core.memory.trace import Trace
from gpuwatch.core.rules import parse_bytes
from gpuwatch.texts import show_bytes
from tests.rules.corpus import CORPUS as CORPUS_FILE
from tests.rules.corpus import incidents_of

RECORDINGS = Path(__file__).parents[2] / "data" / "recordings"
CORPUS = [json.loads(line) for line in CORPUS_FILE.read_text("utf-8").splitlines()] if CORPUS_FILE.is_file() else []
RULES = load_rules()
GIB, MIB = 1 << 30, 1 << 20
WORKSPACE = 8519680
(DDCOLOR,) = (profile for profile in load_workloads() if profile.id == "ddcolor")


def traces(*dtypes: str, rewrites: tuple[str, ...] = ("none",)) -> dict[tuple[str, str, str], Trace]:
    found = {
        (variant, dtype, rewrite): DDCOLOR.traces.find(variant, dtype, rewrite, grad=False, many=False)
        for variant in DDCOLOR.variants
        for dtype in dtypes
        for rewrite in rewrites
    }
    return {name: trace for name, trace in found.items() if trace is not None}


STOCK = traces("fp32")
EVERY = traces("fp32", "amp16", "fp16")


def printed(count: int) -> int:
    """A count as a message prints it, read back."""
    gib, mib = count / GIB, count / MIB
    words = f"{gib:.2f} GiB" if count >= GIB else f"{mib:.2f} MiB"
    return parse_bytes(words.encode()) or 0


def message(name: tuple[str, str, str], side_px: int, allocator_rounds: bool) -> tuple[int, int]:
    """What torch would print where the network dies at its peak: tried and allocated."""
    trace = EVERY[name]
    sized = trace.at(side_px, side_px)
    tried = sized.birth_bytes[sized.peak_birth]
    live = sized.peak_bytes - tried + WORKSPACE
    return printed(-(-tried // (2 * MIB)) * 2 * MIB if allocator_rounds else tried), printed(live)


@pytest.mark.parametrize("name", [("large", "fp32", "none"), ("tiny", "fp32", "none")], ids="-".join)
@pytest.mark.parametrize("side_px", range(256, 2881, 160))
def test_a_job_of_the_stock_node_is_told_from_its_message(name: tuple[str, str, str], side_px: int) -> None:
    for rounds in (True, False):
        tried, allocated = message(name, side_px, rounds)
        answer = candidates_of(STOCK, tried, allocated, sides_px=DDCOLOR.sizes_px())
        if side_px >= 512:
            assert answer.job is not None
            assert (answer.job.variant, answer.job.side_px) == (name[0], side_px)
        else:  # requests of a few MiB come from many steps
            assert (name[0], side_px) in {(c.job.variant, c.job.side_px) for c in answer.candidates}


def test_most_jobs_are_told_with_their_precision_and_the_rest_are_said_to_be_several() -> None:
    told = several = 0
    for name in EVERY:
        for side_px in range(576, 2049, 128):
            tried, allocated = message(name, side_px, allocator_rounds=True)
            answer = candidates_of(EVERY, tried, allocated)
            jobs = {(c.job.variant, c.job.dtype, c.job.side_px) for c in answer.candidates if not c.other_bytes}
            assert (name[0], name[1], side_px) in jobs
            if answer.job is None:
                several += 1
            else:
                told += 1
                assert (answer.job.variant, answer.job.dtype, answer.job.side_px) == (name[0], name[1], side_px)
    assert told > 10 * several


@pytest.mark.parametrize("variant", ["tiny", "large"])
def test_where_a_simulated_card_runs_out_is_found_again(variant: str) -> None:
    trace = STOCK[variant, "fp32", "none"]
    for limit in (4 * GIB, 6 * GIB, 8 * GIB):
        with pytest.raises(Failure) as failed:
            simulate(trace, Size(1600, 1600), Settings(), WORKSPACE, limit)
        out = failed.value.out
        answer = candidates_of(STOCK, printed(out.tried_bytes), printed(out.allocated_bytes))
        here = [c for c in answer.candidates if (c.job.variant, c.job.side_px) == (variant, 1600)]
        assert trace.step(failed.value.birth) in [c.step for c in here]


def test_memory_of_other_models_is_what_is_left_over() -> None:
    tried, allocated = message(("large", "fp32", "none"), 1280, allocator_rounds=True)
    answer = candidates_of(STOCK, tried, allocated + 3 * GIB, sides_px=[1280], places=("decoder.last_shuf",))
    first = answer.candidates[0]
    assert (first.job.variant, first.step) == ("large", "decoder.last_shuf: avg_pool2d")
    assert first.other_bytes == pytest.approx(3 * GIB, rel=0.02)
    assert answer.job is None
    assert candidates_of(STOCK, tried, allocated, sides_px=[1280], places=("encoder",)) == Answer()


def test_numbers_that_agree_with_no_network_tell_nothing() -> None:
    assert candidates_of(STOCK, 4 * GIB, round(5.61 * GIB), sides_px=DDCOLOR.sizes_px()).job is None
    assert candidates_of(STOCK, 20 * MIB, None) == Answer()
    assert candidates_of(STOCK, 1, 1) == Answer()
    assert candidates_of({}, 4 * GIB, None) == Answer()


def test_rounding_is_half_of_the_last_decimal() -> None:
    for count in (4 * GIB + 123456, 700 * MIB + 999, 1600 * 1600 * 1024):
        assert abs(printed(count) - count) <= rounding_of(printed(count))
    assert agrees(1280 * 1280 * 1024, round(1.56 * GIB))
    assert not agrees(1280 * 1280 * 1024, round(1.58 * GIB))
    assert parse_bytes(show_bytes(round(1.56 * GIB)).encode()) == round(1.56 * GIB)


def oom_incidents(log: str) -> list[Incident]:
    return [each for each in incidents_of(log, RULES) if each.label.startswith("cuda_oom")]


def test_the_recorded_failures_are_turned_round() -> None:
    logs = {
        path.stem: path.read_bytes().decode("utf-8", "surrogateescape") for path in sorted(RECORDINGS.glob("*oom*.log"))
    }
    assert logs
    for name, log in logs.items():
        for incident in oom_incidents(log):
            case = case_of(incident, Surroundings(load_workloads()))
            if "large_1280" in name and incident.facts.get("tried_bytes"):
                assert case.shape is not None
                assert (case.shape.variant, case.shape.side_px, case.shape.known_from) == ("large", 1280, "numbers")
                assert case.died is not None
                assert (case.died.step, case.died.other_bytes) == ("decoder.last_shuf: avg_pool2d", 0)
            else:  # 4 GiB at a convolution, injected: no size of the network asks for it while so much is held
                assert case.shape is None or case.shape.side_px is None


@pytest.mark.skipif(not CORPUS, reason="the development corpus is not here")
def test_failures_of_other_nodes_are_taken_for_no_job() -> None:
    told = 0
    for entry in CORPUS:
        if "tried_bytes" not in entry["facts"]:
            continue
        for incident in oom_incidents(entry["log"]):
            case = case_of(incident, Surroundings(load_workloads()))
            assert case.profile is None or case.profile.id == "ddcolor"
            assert case.profile is not None or not case.answer.candidates
            told += 1
    assert told > 5
