"""How long a job waited is told where the server keeps when it was queued, and by no guess where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from gpuwatch.adapters.comfyui.reading import ended_entry, ended_job


def entry(extra: Any) -> dict[str, Any]:
    messages = [
        ["execution_start", {"prompt_id": "a", "timestamp": 12_000}],
        ["execution_success", {"prompt_id": "a", "timestamp": 15_500}],
    ]
    return {"prompt": [1, "a", {}, extra, []], "status": {"messages": messages}}


@pytest.mark.parametrize(
    ("queued_ms", "waited_seconds"),
    [(10_000, 2.0), (12_000, 0.0), (13_000, None), (None, None), ("10000", None), (True, None), (-1, None)],
)
def test_both_lists_tell_the_wait(queued_ms: Any, waited_seconds: float | None) -> None:
    listed = ended_job(
        {
            "id": "a",
            "status": "completed",
            "create_time": queued_ms,
            "execution_start_time": 12_000,
            "execution_end_time": 15_500,
        }
    )
    kept = ended_entry("a", entry({"create_time": queued_ms}))
    for ended in (listed, kept):
        assert ended is not None
        assert (ended.waited_seconds, ended.duration_seconds) == (waited_seconds, 3.5)


@pytest.mark.parametrize("extra", [None, [], "x", {}])
def test_an_older_servers_entry_tells_none(extra: Any) -> None:
    ended = ended_entry("a", entry(extra))
    assert ended is not None
    assert ended.waited_seconds is None
