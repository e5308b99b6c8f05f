"""Which fix comes first, and which is not named at all because it cannot work here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuwatch.core.balance import balance_of
from gpuwatch.core.case import Surroundings
from gpuwatch.core.incidents import Frame, Node
from gpuwatch.core.loop.tried import Tried
from gpuwatch.core.observations import FixTried, GpuProcess
from gpuwatch.texts import render
from tests.core.cases import (
    AT,
    GIB,
    KNOWN,
    MIB,
    NEW_HINT,
    OLD_HINT,
    WORKLOADS,
    actions,
    fix,
    gpu,
    incident,
    native,
    server,
    told,
)

STOCK, OWN = "DDColor_Colorize", "GpuwatchDDColor"
SAMPLER = Node("5", "KSampler")


def ddcolor(side: int, checkpoint: str = "ddcolor_modelscope.pth", kind: str = STOCK, **more: Any) -> Node:
    return Node("3", kind, None, {"model_input_size": side, "checkpoint": checkpoint, **more})


# -- who holds the memory ------------------------------------------------------------------------------------------------


def test_other_programs_come_first_where_they_hold_far_more_than_was_missing() -> None:
    diagnosis = told(incident(native(1.75, 1.35, 15.05, 0.66, 1.04)))
    assert actions(diagnosis)[0] == "unload_others"
    assert "other programs held about 12.0" in render(diagnosis.cause)


def test_the_driver_names_the_program_and_comfyui_is_none_of_the_others() -> None:
    processes = (GpuProcess(7, "python3", 3 * GIB, "comfyui"), GpuProcess(8, "blender", 5 * GIB))
    around = replace(KNOWN, gpu=gpu(8, 7.9, *processes), server=server())
    bare = incident({}, "cuda-oom-async-bare", node=ddcolor(1024, "ddcolor_paper_tiny.pth"))
    diagnosis = told(bare, around)
    first = diagnosis.fixes[0]
    assert (first.action, first.params) == ("unload_others", {"pid": 8})
    assert "other programs held 5.00 GiB of it" in render(diagnosis.cause)
    shrink = fix(diagnosis, "shrink_size")
    assert shrink is not None
    assert shrink.predicted is not None
    assert shrink.predicted.peak_bytes <= 3 * GIB


def test_a_python_that_nobody_knows_is_never_called_another_program() -> None:
    around = replace(KNOWN, gpu=gpu(8, 7.9, GpuProcess(8, "python", 5 * GIB)))
    assert fix(told(incident({}, "cuda-oom-async-bare"), around), "unload_others") is None


@pytest.mark.parametrize(("held", "others"), [(8.3, None), (12.0, 12.0)])
def test_in_a_container_the_process_that_is_named_is_mostly_the_failed_one(held: float, others: float | None) -> None:
    balance = balance_of(native(1, 0.1, 24, 7.5, 8, other_process_bytes=round(held * GIB)))
    assert balance.told_others_bytes == (None if others is None else round(others * GIB))


def test_freeing_is_not_named_where_it_cannot_be_enough() -> None:
    assert fix(told(incident(native(225, 1, 24, 2))), "free_memory") is None
    assert fix(told(incident({"tried_bytes": 225 * GIB})), "free_memory") is None
    assert fix(told(incident(native(9, 1, 24, 2))), "free_memory") is None
    assert fix(told(incident(native(3, 1, 24, 2))), "free_memory") is not None


# -- what was tried ------------------------------------------------------------------------------------------------------


def test_a_fix_that_failed_here_is_not_the_first_again() -> None:
    failed = FixTried(AT, "id", "free_memory", "failed", "127.0.0.1:8188", STOCK)
    facts = native(1, 1, 8, 6, 6.5) | {"tried_bytes": 0}
    made = incident(facts, node=ddcolor(1024, "ddcolor_paper_tiny.pth"))
    around = replace(KNOWN, server=server())
    assert actions(told(made, around))[0] == "free_memory"
    after = actions(told(made, replace(around, tried=Tried().after(failed))))
    assert after[-1] == "free_memory"
    assert after[0] == "shrink_size"
    elsewhere = replace(failed, server="127.0.0.2:8188")
    assert actions(told(made, replace(around, tried=Tried().after(elsewhere))))[0] == "free_memory"


# -- fragmentation -------------------------------------------------------------------------------------------------------

PIECES = native(1.6, 0.2, 6, 3, 5.5)


def test_expandable_segments_come_first_where_idle_pieces_explain_it_under_the_name_that_the_message_uses() -> None:
    made = incident(PIECES, words=f"CUDA out of memory. {NEW_HINT}", label="cuda_oom_fragmentation")
    first = told(made).fixes[0]
    assert (first.action, first.command) == (
        "expandable_segments",
        "PYTORCH_ALLOC_CONF=expandable_segments:True python main.py",
    )


def test_an_older_pytorch_gets_the_setting_that_it_has() -> None:
    made = incident(PIECES, words=f"CUDA out of memory. {OLD_HINT}", label="cuda_oom_fragmentation")
    first = told(made).fixes[0]
    assert first.command == "PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:512 python main.py"
    ancient = incident(PIECES, words="CUDA out of memory. (GPU 0; 6.00 GiB total capacity; ...)")
    assert fix(told(ancient), "expandable_segments") is None


@pytest.mark.parametrize(
    "change",
    [
        {"facts": native(1.6, 0.2, 6, 5.3, 5.5)},  # little is idle
        {"facts": native(1.6, 2.2, 9, 3, 5.5)},  # enough was free: pieces are not it
        {"facts": native(1.6, 0.2, 6, 3, 5.5, allowed_bytes=5 * GIB)},  # a limit was set
        {"rule": "cuda-oom-async", "facts": native(1.6, 0.2, 6, 3)},
        {"words": "Allocation on device 0 would exceed allowed memory. (out of memory)"},
        {"excerpt": ("PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True is set",)},
        {"before": ("{'expandable_segments': 'True'}",)},
        {"frames": (Frame("C:\\ComfyUI\\execution.py", 1, "execute"),)},  # Windows has none
    ],
)
def test_expandable_segments_are_not_named(change: dict[str, Any]) -> None:
    values: dict[str, Any] = {"facts": PIECES, "rule": "cuda-oom-native", "words": "CUDA out of memory."} | change
    facts, rule, words = values.pop("facts"), values.pop("rule"), values.pop("words")
    assert fix(told(incident(facts, rule, words, **values)), "expandable_segments") is None


# -- numbers that contradict each other ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "oddity", "words"),
    [
        (native(0.4, 6.5, 14.5, 7.4, 7.7), "free_enough", "although 6.50 GiB of 14.50 GiB was free"),
        (native(0.4, 6.5, 14.5, 4.7, 4.9, allowed_bytes=5 * GIB), "limited", "limited to 5.00 GiB"),
        (native(0.9, 0, 7.6, 13.3, 13.4), "beyond_card", "on a card of 7.60 GiB"),
        (native(9, 0, 7.6, 3, 3), None, "the whole card has 7.60 GiB"),
        (native(1, 0.5, 8, 6, 6.5), None, "512 MiB too little"),
    ],
)
def test_contradictory_numbers_are_explained_in_a_sentence(facts: dict[str, Any], oddity: str, words: str) -> None:
    assert balance_of(facts).oddity == oddity
    cause = render(told(incident(facts)).cause)
    assert words in cause
    assert cause.count(". ") == 0


def test_sizes_that_are_none_are_none() -> None:
    balance = balance_of({"tried_bytes": 0, "total_bytes": -5, "free_bytes": True, "allocated_bytes": "much"})
    assert balance == balance_of({})
    assert "gives no sizes" in render(told(incident({"tried_bytes": 0, "total_bytes": 0})).cause)


# -- what the node and the version have ----------------------------------------------------------------------------------


def flag(node: Node, version: str | None, *argv: str, facts: dict[str, Any] | None = None) -> str | None:
    made = incident(facts or native(3, 1, 12, 10, 10.5), node=node)
    found = fix(told(made, replace(KNOWN, server=server(version, *argv))), "launch_flag")
    return None if found is None else str(found.params.get("without") or found.params.get("flag"))


def test_flags_are_named_only_where_they_reach_the_node_and_are_not_set() -> None:
    assert flag(SAMPLER, "0.24.0") == "--reserve-vram"
    assert flag(SAMPLER, "0.24.0", "--highvram") == "--highvram"
    assert flag(SAMPLER, "0.24.0", "--novram") is None
    assert flag(SAMPLER, None) is None
    assert flag(SAMPLER, "nightly") is None
    assert flag(SAMPLER, "2.0.0") is None
    assert flag(ddcolor(4096), "0.24.0", "--highvram") is None
    assert flag(Node("1", "VAEDecode"), "0.24.0", "--cpu-vae") is None
    assert flag(Node("1", "VAEDecode"), "0.24.0") == "--cpu-vae"


def test_a_limit_that_was_in_the_way_is_the_first_to_go() -> None:
    first = told(incident(native(2, 5, 10, 4, 4.5, allowed_bytes=5 * GIB))).fixes[0]
    assert first.action == "launch_flag"
    assert "5.00 GiB" in render(first.title)


def test_what_is_reserved_already_is_added_to() -> None:
    made = incident(native(3, 1, 12, 10, 10.5), node=SAMPLER)
    commands = []
    for argv in ((), ("--reserve-vram", "1.5"), ("--reserve-vram=1.5",), ("--reserve-vram", "$(reboot)")):
        found = fix(told(made, replace(KNOWN, server=server("0.24.0", *argv))), "launch_flag")
        commands.append(found.command if found else None)
    less, more = "python main.py --reserve-vram 3", "python main.py --reserve-vram 3.5"
    assert commands == [less, more, more, less]


def test_a_node_that_loads_a_model_is_told_of_the_model_not_of_sizes() -> None:
    diagnosis = told(incident(native(3, 1, 12, 10, 10.5), node=Node("1", "UNETLoader")))
    assert not {"shrink_size", "reduce_batch", "tile_vae"} & set(actions(diagnosis))
    assert "quantised" in " ".join(render(each.title) for each in diagnosis.fixes)


def test_tiles_are_named_where_the_node_has_them() -> None:
    def tiles(node: Node, *functions: str) -> dict[str, Any] | None:
        frames = tuple(Frame("/opt/ComfyUI/comfy/sd.py", 1, name) for name in functions)
        found = fix(told(incident({}, "cuda-oom-async-bare", node=node, frames=frames)), "tile_vae")
        return None if found is None else dict(found.params)

    assert tiles(Node("1", "VAEDecode")) == {
        "node_type": "VAEDecode", "to": "VAEDecodeTiled", "inputs": {"tile_size": 512},
    }  # fmt: skip
    assert tiles(Node("1", "VAEEncode")) == {
        "node_type": "VAEEncode", "to": "VAEEncodeTiled", "inputs": {"tile_size": 512},
    }  # fmt: skip
    retried = tiles(Node("1", "VAEDecode"), "decode", "decode_tiled_")
    assert retried is not None
    assert retried["inputs"] == {"tile_size": 256}
    lower = tiles(Node("1", "VAEDecodeTiled", None, {"tile_size": 512}))
    assert lower == {"node_type": "VAEDecodeTiled", "input": "tile_size", "from": 512, "to": 256}
    assert tiles(Node("1", "VAEDecodeTiled", None, {"tile_size": 64})) is None
    assert tiles(Node("1", "WanVideoDecode")) is None
    assert tiles(SAMPLER, "decode") is None


@pytest.mark.parametrize(
    ("inputs", "to"),
    [({"batch_size": 8}, 2), ({"batch_size": 2}, 1), ({"batch_size": 1}, None), ({"batch_size": True}, None)],
)
def test_a_batch_is_cut_to_what_was_free(inputs: dict[str, Any], to: int | None) -> None:
    node = Node("1", "ImageUpscaleWithModel", None, inputs)
    found = fix(told(incident(native(4, 1.2, 12, 10, 10.5), node=node)), "reduce_batch")
    assert (found.params.get("to") if found else None) == to


def test_the_share_of_the_pixels_is_computed_and_says_so() -> None:
    found = fix(told(incident(native(1.36, 0.456, 5.86, 3.95, 4.06), node=SAMPLER)), "shrink_size")
    assert found is not None
    assert found.params["share"] == pytest.approx(0.95 * 0.456 / 1.36, abs=0.01)
    assert "each side times 0.57" in render(found.title)
    assert "Computed" in render(found.note or "")


def test_an_impossible_number_is_called_one_and_no_setting_is_promised() -> None:
    diagnosis = told(incident({"tried_bytes": 4585490524328388608}, "onnxruntime-oom"))
    assert "no machine has" in render(diagnosis.cause)
    assert not {"shrink_size", "reduce_batch", "free_memory"} & set(actions(diagnosis))


# -- gpuwatch's own node -------------------------------------------------------------------------------------------------


def own(total: float, side: int, **inputs: Any) -> list[tuple[Any, Any]]:
    made = incident({"total_bytes": round(total * GIB)}, "cuda-oom-async-bare", node=ddcolor(side, kind=OWN, **inputs))
    return [(each.action, each.params.get("to")) for each in told(made).fixes if each.grounds == "numbers"]


def test_the_own_node_is_told_its_rewrite_first_then_its_precision() -> None:
    assert own(6, 1280, low_memory="off", precision="fp32")[0] == ("correct_input", "fold")
    assert own(4, 2048, precision="fp32")[0] == ("correct_input", "fp16")
    assert all(action != "correct_input" for action, _ in own(2, 1280, precision="fp16"))
    assert all(action != "switch_node" for action, _ in own(2, 4096))


def test_the_own_node_is_reckoned_in_the_form_that_it_runs() -> None:
    def cause(total: float, **inputs: Any) -> str:
        node = ddcolor(1280, kind=OWN, **inputs)
        return render(told(incident({"total_bytes": round(total * GIB)}, "cuda-oom-async-bare", node=node)).cause)

    assert "which this card has" in cause(6)
    assert "which this card has" in cause(6, low_memory="fold", precision="auto")
    assert "the card has 6.00 GiB in all" in cause(6, low_memory="off", precision="fp32")
    assert "the card has 2.00 GiB in all" in cause(2, precision="fp32")
    # Where fp32 does not fit, `auto` ran fp16: about half.
    assert cause(2, precision="auto") == cause(2, precision="fp16") != cause(2, precision="fp32")


# -- nothing is known ----------------------------------------------------------------------------------------------------


def test_where_nothing_is_known_no_number_is_invented_and_the_one_to_look_up_is_named() -> None:
    stock = told(incident({}, "cuda-oom-async-bare", node=Node("3", STOCK)))
    assert "--gpu-memory" in " ".join(render(each.note or "") for each in stock.fixes)
    other = told(incident({}, "cuda-oom-runtime", node=SAMPLER))
    words = " ".join(render(each.title) for each in other.fixes)
    assert not any(unit in words for unit in ("GiB", "MiB", "%"))


def test_the_driver_gives_the_sizes_that_the_log_lacks() -> None:
    around = Surroundings(WORKLOADS, gpu=gpu(8, 7.5))
    assert "counted 7.50 GiB of 8.00 GiB" in render(told(incident({}, "cuda-oom-runtime", node=SAMPLER), around).cause)
    shrink = fix(told(incident({}, "cuda-oom-async-bare", node=ddcolor(2048)), around), "shrink_size")
    assert shrink is not None
    assert shrink.predicted is not None
    assert shrink.predicted.fits == "yes"
    assert shrink.predicted.peak_bytes <= 8 * GIB


def test_a_request_that_no_step_makes_is_called_so() -> None:
    strange = told(incident(native(4, 1.5, 7.8, 5.6, 6.0), node=ddcolor(1024, "ddcolor_paper_tiny.pth")))
    assert any("No step of the network asks for 4.00 GiB" in render(line) for line in strange.evidence)
    small = told(incident({**native(4, 1.5, 7.8, 5.6, 6.0), "tried_bytes": 2 * MIB}, node=ddcolor(1024)))
    assert not any("No step" in render(line) for line in small.evidence)
