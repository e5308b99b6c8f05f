"""How long a server that errs is waited for, and what is said meanwhile."""

from __future__ import annotations

import pytest

from gpuwatch.adapters.comfyui import patience
from gpuwatch.adapters.comfyui.client import NoAnswerError
from gpuwatch.texts import plain


def test_patience_says_it_seldom_waits_longer_each_time_and_ends() -> None:
    now = [0.0]
    kept = patience.Patience("s", 600.0, lambda: now[0])
    error = NoAnswerError("status", plain("HTTP 500."))
    said, pauses = [], []
    while now[0] < 600:
        said.append(kept.failed(error))
        pauses.append(kept.pause_seconds(0.05))
        now[0] += pauses[-1] + 1
    with pytest.raises(NoAnswerError, match="HTTP 500") as given_up:
        kept.failed(error)
    assert str(len(said) + 1) in str(given_up.value)
    assert pauses == sorted(pauses)
    assert len([told for told in said if told is not None]) == 10
    assert kept.answered() is not None
    assert kept.answered() is None
    assert kept.failed(error) is not None, "a new time away begins"
