"""What a server's answers mean where their numbers are none that a server has."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest

from gpuwatch.adapters.comfyui.acting import Hands
from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.comfyui.client import Client
from gpuwatch.adapters.comfyui.reading import number, plain_inputs, remaining_of, server_seen, whole
from tests.core.engine_log import AT
from tests.standin.server import standing

BEYOND = [10**400, -(10**400), float("inf"), float("nan"), True, "3", None, [3]]
"""Python's JSON reads each of them."""


@pytest.mark.parametrize("value", BEYOND, ids=repr)
def test_what_is_no_number_of_a_servers_is_none(value: Any) -> None:
    assert whole(value) is None
    assert number(value) is None
    assert remaining_of({"exec_info": {"queue_remaining": value}}) is None
    seen = server_seen({"system": {"os": "posix"}, "devices": [{"vram_total": value}]}, AT, "a")
    assert seen is not None
    assert seen.total_bytes is None


def test_inputs_keep_what_a_node_may_have_and_seeds_are_the_largest_of_it() -> None:
    inputs = {
        "seed": 2**64 - 1,
        "batch": [4],
        "huge": 10**400,
        "lost": float("nan"),
        "on": True,
        "name": "x",
        "many": [1, 2],
    }
    assert plain_inputs(inputs) == {"seed": 2**64 - 1, "batch": 4, "on": True, "name": "x"}


def test_a_queue_whose_ids_are_no_words_is_looked_through() -> None:
    queue = {"queue_running": [[0, {"id": 1}], [1, ["x"]]], "queue_pending": [[2, "ours"]]}
    with standing() as standin:
        standin.hazards.raw["/queue"] = json.dumps(queue).encode()
        with closing(Hands(Client(server_of(standin.url)))) as hands:
            assert hands.arrived("ours") == "ours"
