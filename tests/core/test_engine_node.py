"""Which node failed, as the lines of its log tell it: a traceback's frames, a name that stands alone, an event, a report."""

from __future__ import annotations

import json

import pytest

from tests.core.engine_log import DONE, HEAD, NATIVE, TRACE, Log


def test_the_node_comes_from_the_folder_that_the_traceback_ran_through_last() -> None:
    log = Log()
    frames = TRACE + '  File "/opt/ComfyUI/custom_nodes/ComfyUI-DDColor/nodes.py", line 89, in process\n'
    log.say(f"{HEAD}{NATIVE}\n{frames}torch.OutOfMemoryError: {NATIVE}\n{DONE}")
    assert (log.only.node.pack, log.only.node.type) == ("ComfyUI-DDColor", "DDColor_Colorize")
    assert log.only.frames[-1].function == "process"


@pytest.mark.parametrize(
    ("above", "node"),
    [
        ("KSampler\n", "KSampler"),
        ("Prompt execution failed\n\nVAEDecode\n\n", "VAEDecode"),
        ("**KSampler (Efficient)**\n", "KSampler (Efficient)"),
        ("OutOfMemoryError\n", None),
        ("ComfyUI\n", None),
        ("Loading\n", None),
        ("[2026-11-21 00:50:35.049] FluxModel\n", None),
        ("VAEDecode is slow\n", None),
    ],
)
def test_the_node_is_the_one_that_stands_alone_above_the_message(above: str, node: str | None) -> None:
    for looked_at in (True, False):
        log = Log(looked_at=looked_at)
        log.say(f"{above}{NATIVE}\n")
        log.end()
        assert log.only.node.type == node


@pytest.mark.parametrize("between", ["", "VAE Decode\n", "VAE Decode\nEnter subgraph\n"])
def test_the_node_is_the_one_that_the_panel_names_with_its_number(between: str) -> None:
    log = Log()
    log.say(f"VAEDecode\n#427:246:223\n{between}{NATIVE}\n")
    log.end()
    assert (log.only.node.id, log.only.node.type) == ("427:246:223", "VAEDecode")


@pytest.mark.parametrize(
    ("title", "node"),
    [
        ("KSampler ", "KSampler"),
        ("CLIPLoaderGGUF - ", "CLIPLoaderGGUF"),
        ("LatentSyncNode: ", "LatentSyncNode"),
        ("SamplerCustomAdvancedError: ", None),
        ("DataLoader ", None),
        ("PyTorch ", None),
    ],
)
def test_the_node_is_the_one_that_a_reports_title_begins_with(title: str, node: str | None) -> None:
    log = Log()
    log.say(f"{title}{NATIVE}\n")
    log.end()
    assert log.only.node.type == node


EVENT = {"node_id": "8", "node_type": "VAEDecode", "executed": ["4"] * 5, "exception_message": NATIVE, "traceback": []}


@pytest.mark.parametrize("keys", [list(EVENT), sorted(EVENT)], ids=["as sent", "sorted"])
@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_the_node_is_the_one_that_the_servers_event_names(keys: list[str], indent: int | str | None) -> None:
    log = Log()
    log.say(json.dumps({key: EVENT[key] for key in keys}, indent=indent) + "\n")
    log.end()
    assert (log.only.node.id, log.only.node.type, log.only.facts["tried_bytes"]) == ("8", "VAEDecode", 2 << 30)


def test_a_report_on_one_line_with_its_line_ends_written_out_names_the_node() -> None:
    log = Log()
    log.say(
        rf"## Error Details\n- **Node ID:** 7\n- **Node Type:** KSampler\n- **Exception Message:** {NATIVE}\n## Stack"
    )
    log.end()
    assert (log.only.node.id, log.only.node.type) == ("7", "KSampler")


@pytest.mark.parametrize("between", ["\n", "\n\n"], ids=["as written", "with empty lines"])
def test_two_reports_are_two_failures_with_a_node_each(between: str) -> None:
    lines = [
        "# ComfyUI Error Report",
        "## Error Details",
        "- **Node ID:** {}",
        "- **Node Type:** {}",
        "- **Exception Message:** {}",
    ]
    report = between.join(lines) + between
    log = Log()
    log.say(report.format(7, "ImageBlend", "CUDA error: misaligned address") + report.format(9, "ImageScale", NATIVE))
    log.end()
    assert [(i.node.id, i.node.type) for i in log.incidents.values()] == [("7", "ImageBlend"), ("9", "ImageScale")]


@pytest.mark.parametrize("between", ["\n", "\n\n"], ids=["as written", "with empty lines"])
def test_a_report_names_the_node_of_the_message_that_was_pasted_above_it(between: str) -> None:
    lines = [
        "ImageBlend",
        NATIVE,
        "",
        "# ComfyUI Error Report",
        "## Error Details",
        "- **Node ID:** 7",
        "- **Node Type:** Blend",
    ]
    log = Log()
    log.say(between.join(lines) + "\n")
    log.end()
    assert (log.only.label, log.only.node.id, log.only.node.type) == ("cuda_oom", "7", "Blend")


def test_a_node_type_may_have_a_colon_of_its_own() -> None:
    log = Log()
    log.say(f"Error occurred when executing LayerMask: Odd V2:\n\n{NATIVE}\n")
    log.end()
    assert log.only.node.type == "LayerMask: Odd V2"
