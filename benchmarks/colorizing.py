"""What the rewrites of DDColor bring on a CPU, and what being able to profile costs while nobody profiles.

`python -m benchmarks.colorizing` is the child that is measured: only there is torch loaded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.measuring import Sample, Table, run

PAIRS = {256: 7, 512: 5}
TRACED_PX = 1280
_MARKS_A_PASS = 4


def tables(folder: Path) -> list[Table]:
    """Times by interleaved pairs, memory by tracing, and the marks' cost."""
    del folder
    told: dict[str, Any] = json.loads(run([sys.executable, "-m", "benchmarks.colorizing"]).out.splitlines()[-1])
    return [_times(told), _memory(told["live_bytes"])]


def _times(told: dict[str, Any]) -> Table:
    rows = []
    for size, seconds in told["seconds"].items():
        plain, fold = Sample(tuple(seconds["none"])), Sample(tuple(seconds["fold"]))
        rows.append((f"tiny at {size}, fp32", str(plain), str(fold), plain.over(fold).as_ratio()))
    share = _MARKS_A_PASS * told["mark_seconds"] / min(told["seconds"]["256"]["fold"])
    return Table(
        "DDColor on the CPU, warm",
        ("Measured, one thread", "As published (`none`)", "`fold`", "Faster, pair by pair"),
        tuple(rows),
        (
            f"Pairs taken in turn: {', '.join(f'{count} at {size}' for size, count in PAIRS.items())}. "
            f"Largest difference of the two outputs at 256: {told['difference']:.1e} of at most {told['largest']:.2f}.",
            f"With profiling off, a pass opens {_MARKS_A_PASS} empty marks of {told['mark_seconds'] * 1e9:.0f} ns each (measured): "
            f"{100 * share:.5f} % of the fastest pass (computed).",
        ),
    )


def _memory(live_bytes: dict[str, dict[str, int]]) -> Table:
    rows = []
    for variant, by_rewrite in live_bytes.items():
        whole = by_rewrite["none"]
        rows.append(
            (
                f"{variant} at {TRACED_PX}",
                *(f"{size_bytes / 2**30:.2f} GiB" for size_bytes in by_rewrite.values()),
                f"{whole / by_rewrite['tail']:.2f}x, {whole / by_rewrite['fold']:.2f}x",
            )
        )
    return Table(
        "DDColor's memory, batch 1, fp32",
        ("Computed: peak of live bytes", "`none`", "`tail`", "`fold`", "Less, `tail` and `fold`"),
        tuple(rows),
        (
            "Traced on torch's meta device: every tensor of one pass followed from birth to death, weights included. A CUDA "
            "allocator's rounding and a library's workspace come on top; no GPU was used.",
        ),
    )


def _measure() -> dict[str, Any]:
    import torch  # noqa: PLC0415 - only the measured child loads torch

    from benchmarks.live import peak_of_pass  # noqa: PLC0415
    from gpuwatch_runner import weights  # noqa: PLC0415
    from gpuwatch_runner.ddcolor import REWRITES, VARIANTS, DDColor  # noqa: PLC0415

    # With a thread a core, torch's threads spin for cores that something else has, and one pass can take fifty times as long.
    torch.set_num_threads(1)
    state = weights.random_state("tiny")
    plain, fold = weights.build(dict(state), "tiny", "none"), weights.build(dict(state), "tiny", "fold")
    seconds: dict[int, dict[str, list[float]]] = {}
    difference = largest = 0.0
    with torch.inference_mode():
        for size_px, pairs in PAIRS.items():
            image = torch.rand(1, 1, size_px, size_px, generator=torch.Generator().manual_seed(1)).repeat(1, 3, 1, 1)
            expected, folded = plain(image), fold(image)
            if not difference:
                difference, largest = (folded - expected).abs().max().item(), expected.abs().max().item()
            taken: dict[str, list[float]] = {"none": [], "fold": []}
            for _ in range(pairs):
                for name, network in (("none", plain), ("fold", fold)):
                    started = perf_counter()
                    network(image)
                    taken[name].append(perf_counter() - started)
            seconds[size_px] = taken
    live_bytes: dict[str, dict[str, int]] = {}
    for variant in VARIANTS:
        live_bytes[variant] = {}
        for rewrite in REWRITES:
            with torch.device("meta"):
                network, image = DDColor(variant, rewrite), torch.empty(1, 3, TRACED_PX, TRACED_PX)
            live_bytes[variant][rewrite] = peak_of_pass(network, image)
    return {
        "seconds": seconds,
        "difference": difference,
        "largest": largest,
        "mark_seconds": _mark_seconds(fold),
        "live_bytes": live_bytes,
    }


def _mark_seconds(network: Any) -> float:
    times = 100_000
    started = perf_counter()
    for _ in range(times):
        with network.mark("encoder"):
            pass
    return (perf_counter() - started) / times


if __name__ == "__main__":
    print(json.dumps(_measure()))
