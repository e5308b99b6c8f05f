"""The machine's own numbers, as the operating system gives them."""

from __future__ import annotations

import psutil

from gpuwatch.adapters.sources.host import HostSource
from gpuwatch.core.observations import HostSample
from tests.adapters.watching import Watched


def test_samples_follow_one_another_and_only_the_first_has_no_processor_use() -> None:
    with Watched(HostSource(0.02)) as watched:
        watched.until(lambda: len(watched.observations) >= 3)
    samples = [each for each in watched.observations if isinstance(each, HostSample)]
    assert samples[0].cpu_ratio is None
    for sample in samples[1:]:
        assert sample.cpu_ratio is not None
        assert 0 <= sample.cpu_ratio <= 1
    for sample in samples:
        assert sample.memory_total_bytes == psutil.virtual_memory().total
        assert 0 < sample.memory_available_bytes <= sample.memory_total_bytes
        assert sample.swap_used_bytes >= 0
        assert sample.at.tzinfo is not None
    assert str(watched.reason) == "stopped"
