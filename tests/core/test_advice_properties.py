"""What no adviser may ever do, whatever a message, a server and a driver say together."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from gpuwatch.core.case import Case, Surroundings, case_of
from gpuwatch.core.confidence import confidence_in_memory
from gpuwatch.core.diagnosis import GROUNDS, Diagnosis
from gpuwatch.core.incidents import Incident, Node
from gpuwatch.core.memory.simulate import Size
from gpuwatch.core.observations import GpuProcess
from gpuwatch.texts import render
from tests.core.cases import GIB, RULES, WORKLOADS, gpu, incident, native, server, told

SETTINGS = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)  # fmt: skip
MEMORY_RULES = [
    rule.id
    for rule in RULES
    if rule.label in ("cuda_oom", "hip_oom", "xpu_oom", "mps_oom", "directml_oom", "cublas_alloc_failed", "tf_oom")
]
SIZES = [0, 20 << 20, GIB // 2, 13 * GIB // 10, 2 * GIB, 5 * GIB, 8 * GIB, 24 * GIB, 225 * GIB, 1 << 62]
PLACE = re.compile(r"\{[a-z_]+\}")
INPUTS = {
    "model_input_size": [1, 32, 512, 720, 1024, 1280, 2912, 4096, 100000, True, None, "link"],
    "checkpoint": ["ddcolor_paper_tiny.pth", "ddcolor_modelscope.pth", "other.pth", 3],
    "precision": ["auto", "fp32", "fp16", "bf16", "int8", 7],
    "low_memory": ["fold", "tail", "off", "none", 7],
    "batch_size": [0, 1, 2, 8, -3, True],
    "tile_size": [64, 512, 96, 1 << 30, False],
}
NODES = [
    None, "DDColor_Colorize", "GpuwatchDDColor", "KSampler", "VAEDecode", "VAEDecodeTiled", "UNETLoader", "Unheard{of}",
]  # fmt: skip
ARGV = [
    "--lowvram",
    "--highvram",
    "--gpu-only",
    "--novram",
    "--reserve-vram",
    "2",
    "--cpu-vae",
    "--disable-cuda-malloc",
]


@some.composite
def cases(draw: Any) -> tuple[Incident, Surroundings]:
    """A failure and its surroundings, as they can come and as they cannot."""

    def maybe(values: Any) -> Any:
        return draw(some.one_of(some.none(), some.sampled_from(values)))

    names = ("tried", "free", "total", "allocated", "reserved", "reserved_unallocated", "process_in_use", "allowed",
             "other_process", "other_allocations", "max_allowed")  # fmt: skip
    facts = {f"{name}_bytes": size for name in names if (size := maybe(SIZES)) is not None}
    inputs = {name: draw(some.sampled_from(values)) for name, values in INPUTS.items() if draw(some.booleans())}
    kind = draw(some.sampled_from(NODES))
    pack = draw(some.sampled_from([None, "ComfyUI-DDColor", "gpuwatch-ddcolor"])) if kind is None else None
    made = incident(facts, draw(some.sampled_from(MEMORY_RULES)), node=Node("3", kind, pack, inputs))
    argv = tuple(draw(some.lists(some.sampled_from(ARGV), max_size=3)))
    device = maybe(["cuda:0 NVIDIA : cudaMallocAsync", "cuda:0 NVIDIA : native", "cpu"])
    seen = server(maybe(["0.3.64", "0.24.0", "0.38.1", "x"]), *argv, device=device, total=maybe([6.0, 24.0]))
    processes = (
        GpuProcess(7, "python", 2 * GIB, "comfyui"),
        GpuProcess(9, "game", 5 * GIB),
        GpuProcess(10, None, None),
    )
    sample = gpu(maybe([0.0, 6.0, 12.0]), maybe([1.0, 11.0]), *processes[: draw(some.integers(0, 3))])
    around = Surroundings(
        WORKLOADS,
        gpu_total_bytes=maybe([6 * GIB, 24 * GIB]),
        gpu=sample if draw(some.booleans()) else None,
        server=seen if draw(some.booleans()) else None,
    )
    return made, around


@SETTINGS
@given(cases())
def test_advice_is_the_same_each_time_speaks_both_languages_and_is_ordered(each: tuple[Incident, Surroundings]) -> None:
    diagnosis = told(*each)
    assert diagnosis == told(*each)
    grounds = [GROUNDS.index(fix.grounds) for fix in diagnosis.fixes]
    assert grounds == sorted(grounds)
    assert 0 < diagnosis.confidence <= 0.95
    for language in ("en", "zh"):
        for words in (diagnosis.cause, *diagnosis.evidence, *(fix.title for fix in diagnosis.fixes)):
            said = PLACE.findall(render(words, language).replace("Unheard{of}", ""))
            assert said == []
            assert "?" not in render(words, language)


@SETTINGS
@given(cases())
def test_a_fix_names_only_what_the_node_the_version_and_the_allocator_have(each: tuple[Incident, Surroundings]) -> None:
    made, around = each
    case, diagnosis = case_of(made, around), told(made, around)
    for fix in diagnosis.fixes:
        name = fix.params.get("input")
        if name is not None:
            assert name in inputs_of(case) or name in made.node.inputs
        if fix.action == "launch_flag" and fix.params:
            assert case.profile is None
            assert around.server is not None
            assert around.server.version in ("0.3.64", "0.24.0", "0.38.1")
            assert fix.params.get("flag") not in set(around.server.argv) - {"--reserve-vram"}
            assert fix.params.get("without", "--highvram") in (*around.server.argv, "--highvram")
        if fix.action == "expandable_segments":
            assert case.allocator == "native"
        if fix.action == "switch_node" and fix.params:
            assert made.node.type != "GpuwatchDDColor"
        if fix.action == "reduce_batch" and fix.params:
            assert case.profile is None
            assert 1 <= fix.params["to"] < fix.params["from"]
        if fix.action == "tile_vae" and "from" in fix.params:
            assert fix.params["to"] % 64 == 0
            assert 64 <= fix.params["to"] < fix.params["from"]
    words = told_words(diagnosis)
    assert "--lowvram" not in words
    assert "--normalvram" not in words
    if case.profile is not None and case.profile.dtype_input is None:
        assert "fp16" not in words


@SETTINGS
@given(cases())
def test_a_size_is_one_that_the_node_takes_and_what_fits_is_below_what_there_is(
    each: tuple[Incident, Surroundings],
) -> None:
    made, around = each
    case, diagnosis = case_of(made, around), told(made, around)
    for fix in diagnosis.fixes:
        if fix.action == "shrink_size" and "to" in fix.params and case.profile is not None:
            to, was = fix.params["to"], fix.params["from"]
            assert case.profile.invalid(Size(to, to)) is None
            assert was is None or to < was or to == case.profile.min_px
        if fix.predicted is not None and fix.predicted.fits == "yes":
            assert case.room_bytes is not None
            if case.balance.total_bytes is not None:
                free = case.balance.total_bytes - (case.balance.others_bytes or 0)
                assert fix.predicted.peak_bytes <= free + 1


# -- how sure it is ------------------------------------------------------------------------------------------------------

FULL = native(1.5625, 0.625, 5.79, 4.37, 4.70, process_in_use_bytes=round(5.10 * GIB))
JOB = {"model_input_size": 1280, "checkpoint": "ddcolor_modelscope.pth"}


def sure(facts: dict[str, Any], inputs: dict[str, Any], around: Surroundings) -> float:
    return confidence_in_memory(case_of(incident(facts, node=Node("3", "DDColor_Colorize", None, inputs)), around))


def test_whoever_agrees_adds_to_how_sure_it_is() -> None:
    plain, seen = Surroundings(WORKLOADS), Surroundings(WORKLOADS, gpu=gpu(6, 5.5))
    steps = [
        sure({}, {}, plain),
        sure({"tried_bytes": FULL["tried_bytes"]}, {}, plain),
        sure(FULL, {}, plain),
        sure(FULL, JOB, plain),
        sure(FULL, JOB, seen),
    ]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (0.5, 0.95)


def test_each_source_alone_adds_and_none_takes_away() -> None:
    plain = Surroundings(WORKLOADS)
    for facts in ({}, FULL):
        for inputs in ({}, JOB):
            for around in (plain, replace(plain, server=server(total=5.8))):
                base = sure(facts, inputs, around)
                assert sure({**facts, **FULL}, inputs, around) >= base
                assert sure(facts, {**inputs, **JOB}, around) >= base
                assert sure(facts, inputs, replace(around, gpu=gpu(5.8, 5))) >= base


def test_numbers_that_contradict_each_other_add_nothing() -> None:
    around = Surroundings(WORKLOADS)
    assert sure(native(0.4, 6.5, 14.5, 7.4, 7.7), {}, around) == sure({}, {}, around) == 0.5


def inputs_of(case: Case) -> set[str]:
    profile = case.profile
    if profile is None:
        return set()
    forms = [each.name for each in (profile.dtype_input, profile.rewrite_input) if each is not None]
    return {profile.size_input, profile.checkpoint_input, *forms}


def told_words(diagnosis: Diagnosis) -> str:
    parts = [(render(fix.title), fix.command or "", render(fix.note or "")) for fix in diagnosis.fixes]
    return " ".join(" ".join(part) for part in parts)
