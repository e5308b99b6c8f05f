"""Needs, budgets and whether they fit: consistent with one another and with what the simulation does."""

from __future__ import annotations

import pytest
from benchmarks.gpu.replay import expanded, replay

from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.memory.band import Band
from gpuwatch.core.memory.calibration import Calibration, pick
from gpuwatch.core.memory.pool import MIB, Settings
from gpuwatch.core.memory.predict import fits, fits_card
from gpuwatch.core.memory.simulate import Failure, Size, is_enough, seeking, simulate, smallest_budget, without_limit
from gpuwatch.core.workload import Need, largest_fitting_px, predict, tokens_of
from gpuwatch.texts import plain, render

GIB = 1 << 30
WORKSPACE = 8519680
(DDCOLOR,) = (profile for profile in load_workloads() if profile.id == "ddcolor")
NATIVE = Settings()


def ascending(band: Band) -> bool:
    return band.low <= band.mid <= band.high


@pytest.mark.parametrize("allocator", ["native", "expandable", "async"])
@pytest.mark.parametrize("dtype", ["fp32", "amp16", "bf16"])
@pytest.mark.parametrize("side_px", [32, 256, 1280])
def test_a_need_adds_up(allocator: str, dtype: str, side_px: int) -> None:
    need = predict(DDCOLOR, "tiny", side_px, dtype, allocator=allocator)  # type: ignore[arg-type]
    assert need.dtype == dtype
    assert 0 < need.weights_bytes + need.workspace_bytes < need.live_bytes <= need.allocated_bytes
    assert need.allocated_bytes <= need.reserved_bytes.low
    assert need.live_bytes <= need.budget_bytes.low
    assert all(ascending(band) for band in (need.reserved_bytes, need.process_bytes, need.budget_bytes))
    assert need.process_bytes == need.reserved_bytes.plus(need.context_bytes)
    assert need.allocated_bytes - need.live_bytes < 24 * MIB
    if allocator == "expandable":
        assert (
            need.budget_bytes.mid <= predict(DDCOLOR, "tiny", side_px, dtype).budget_bytes.mid + 2 * 20 * MIB
        )  # pages


def test_the_smallest_budget_works_and_a_smaller_does_not() -> None:
    trace = DDCOLOR.traces.find("large", "fp32", "none", grad=False, many=False)
    assert trace is not None
    for side in (512, 1280):
        size = Size(side, side)
        free = without_limit(trace, size, NATIVE, WORKSPACE)
        budget = smallest_budget(trace, size, NATIVE, WORKSPACE)
        assert free.live_bytes <= budget <= free.reserved_bytes
        assert simulate(trace, size, NATIVE, WORKSPACE, budget).peak_birth == free.peak_birth
        with pytest.raises(Failure) as failed:
            simulate(trace, size, NATIVE, WORKSPACE, round(budget * 0.98))
        assert failed.value.out.reserved_bytes <= budget
        assert failed.value.birth >= 0
    with pytest.raises(Failure) as failed:
        simulate(trace, Size(64, 64), NATIVE, WORKSPACE, 64 * MIB)
    assert failed.value.birth == -1  # while loading


def test_a_limit_is_enough_from_the_smallest_budget_up_whatever_was_asked_before() -> None:
    trace = DDCOLOR.traces.find("tiny", "fp32", "none", grad=False, many=False)
    assert trace is not None
    size = Size(352, 352)
    budget = smallest_budget(trace, size, NATIVE, WORKSPACE)
    for limits in ((budget - 1, budget, 0, 80 * GIB), (80 * GIB, budget, budget + 1, budget - 1, budget - 9 * MIB)):
        seeking.cache_clear()
        for limit in limits:
            assert is_enough(trace, size, NATIVE, WORKSPACE, limit) is (limit >= budget)
    seeking.cache_clear()
    before = without_limit(trace, size, NATIVE, WORKSPACE)
    assert not is_enough(trace, size, NATIVE, WORKSPACE, before.live_bytes - 1)
    assert seeking.cache_info().currsize == 0  # less than what is alive needs no simulation
    assert is_enough(trace, size, NATIVE, WORKSPACE, before.reserved_bytes)
    assert seeking(trace, size, NATIVE, WORKSPACE).bounds == (before.live_bytes - 1, before.reserved_bytes)


def test_the_peak_is_where_the_network_has_it() -> None:
    assert predict(DDCOLOR, "large", 1280).peak_step == "decoder.last_shuf: avg_pool2d"
    assert predict(DDCOLOR, "large", 1280, rewrite="fold").live_bytes < 2 * GIB


def test_fitting_follows_the_budget() -> None:
    need = predict(DDCOLOR, "large", 1024)
    budget = need.budget_bytes
    assert [fits(need, room) for room in (budget.high, budget.mid, budget.low - 1)] == ["yes", "uncertain", "no"]
    least = need.least_bytes
    assert fits_card(need, least.high + GIB, GIB) == "yes"
    assert fits_card(need, least.high, GIB) == "no"
    assert fits_card(need, (least.low + least.high) / 2) == "uncertain"


def test_on_a_tight_card_the_process_takes_no_more_than_there_is() -> None:
    roomy, tight = predict(DDCOLOR, "large", 1024), predict(DDCOLOR, "large", 1024, room_bytes=5 * GIB)
    assert roomy.process_bytes.high > 5 * GIB + roomy.context_bytes.high * 0.9 or roomy.reserved_bytes.high <= 5 * GIB
    assert tight.reserved_bytes.high <= 5 * GIB
    assert predict(DDCOLOR, "large", 1024, room_bytes=GIB).reserved_bytes == roomy.reserved_bytes


def test_the_largest_size_that_fits_wastes_little() -> None:
    for room in (3 * GIB, 8 * GIB, 20 * GIB):
        for variant in ("tiny", "large"):
            side = largest_fitting_px(DDCOLOR, variant, room)
            assert side is not None
            if side < 2880:
                assert predict(DDCOLOR, variant, side).budget_bytes.mid > 0.9 * room
    assert largest_fitting_px(DDCOLOR, "large", 0.5 * GIB) is None
    assert largest_fitting_px(DDCOLOR, "large", 80 * GIB) == 2880
    assert largest_fitting_px(DDCOLOR, "large", 80 * GIB, rewrite="fold") == 4096
    assert largest_fitting_px(DDCOLOR, "huge", 80 * GIB) is None


def test_few_sizes_are_uncertain() -> None:
    cards = [count * GIB for count in (4, 6, 8, 12, 24)]
    needs = {side: predict(DDCOLOR, "large", side, arch="sm86") for side in range(64, 2881, 128)}
    verdicts = [fits_card(need, card) for need in needs.values() for card in cards]
    assert verdicts.count("uncertain") <= 0.05 * len(verdicts)
    assert {"yes", "no"} < set(verdicts)


@pytest.mark.parametrize(("context", "most"), [("told", 0.095), ("not told", 0.11)])
def test_what_is_suggested_uses_the_card(context: str, most: float) -> None:
    unknown = predict(DDCOLOR, "tiny", 512).context_bytes
    left = []
    for card in (count * GIB for count in (4, 6, 8, 12, 20)):
        for variant, rewrite in (("large", "none"), ("tiny", "none"), ("tiny", "tail")):
            side = largest_fitting_px(
                DDCOLOR, variant, card - (unknown.mid if context == "told" else unknown.high), rewrite=rewrite
            )
            assert side is not None
            if side < 2880:  # the network's own limit
                left.append(
                    1 - (predict(DDCOLOR, variant, side, rewrite=rewrite).budget_bytes.mid + unknown.mid) / card
                )
    assert max(left) < most
    assert sum(left) / len(left) < 0.07


def test_an_unknown_card_makes_the_band_wider() -> None:
    known, unknown = (predict(DDCOLOR, "tiny", 512, arch=arch) for arch in ("sm86", "sm999"))

    def width(need: Need) -> float:
        return need.process_bytes.high - need.process_bytes.low

    assert width(unknown) > width(known)
    assert predict(DDCOLOR, "tiny", 512, arch="sm90").workspace_bytes == 32 * MIB


def test_the_calibration_that_says_most_is_taken() -> None:
    def one(arch: str, allocator: str = "*", torch: str = "*", *, measured: bool = False) -> Calibration:
        band = Band.exactly(1)
        return Calibration(arch, allocator, torch, measured, band, band, band, band, plain("here"))

    anywhere, card, ran = one("*"), one("sm86"), one("sm86", measured=True)
    exact = one("sm86", "native", "2.9")
    known = (anywhere, card, ran, exact)
    assert pick(known, "sm86", "native", "2.9.1") is exact
    assert pick(known, "sm86", "async", "2.9.1") is ran
    assert pick(known, "sm86", "native", "2.10.0") is ran
    assert pick(known, None, "native") is anywhere
    with pytest.raises(LookupError):
        pick((card,), "sm90", "native")


@pytest.mark.parametrize("rewrite", ["none", "tail", "fold"])
def test_the_sizes_are_those_that_can_run(rewrite: str) -> None:
    sizes = DDCOLOR.sizes_px(rewrite)
    able = [side for side in range(1, 5000) if DDCOLOR.invalid(Size(side, side), rewrite) is None]
    assert list(sizes) == able


@pytest.mark.parametrize(
    ("height", "width", "batch", "rewrite", "words"),
    [
        (720, 720, 1, "none", "use 704 px or 736 px"), (0, 512, 1, "none", "too small"), (-32, 512, 1, "none", "too small"),
        (512, 4128, 1, "fold", "above 4096 px"), (2912, 2912, 1, "none", "32-bit"), (2912, 2912, 1, "fold", None),
        (2048, 2048, 3, "tail", "32-bit"), (512, 512, 0, "none", "at least one"), (32, 32, 5000, "fold", "the most is 4096"),
        (2880, 2880, 1, "none", None),
    ],
)  # fmt: skip
def test_a_size_that_cannot_run_is_told_why(
    height: int, width: int, batch: int, rewrite: str, words: str | None
) -> None:
    why = DDCOLOR.invalid(Size(height, width, batch), rewrite)
    assert (why is None) if words is None else (words in render(why or ""))


def test_what_is_not_traced_is_not_predicted() -> None:
    unknown = [("huge", "fp32", "none", False), ("tiny", "int8", "none", False), ("tiny", "fp32", "fold", True)]
    for variant, dtype, rewrite, grad in unknown:
        with pytest.raises(KeyError):
            predict(DDCOLOR, variant, 512, dtype, rewrite=rewrite, grad=grad)
    for side in (720, 0, -32):
        with pytest.raises(KeyError):
            predict(DDCOLOR, "tiny", side)
        with pytest.raises(KeyError):
            predict(DDCOLOR, "tiny", 512, width_px=side)


def test_tokens_are_the_patches_of_a_pass() -> None:
    assert (tokens_of(512, 512), tokens_of(500, 30, 2)) == (1024, 128)


def test_a_history_is_replayed_beside_what_the_card_did() -> None:
    def event(action: str, address: int, size: int) -> dict[str, object]:
        return {"action": action, "addr": address, "size": size, "stream": 0}

    history = [
        event("free_requested", 7, 512), event("free_completed", 7, 512),  # from before the record
        event("segment_alloc", 0, 20 * MIB), event("alloc", 0, 4 * MIB), event("alloc", 4 * MIB, 8 * MIB),
        event("free_requested", 0, 4 * MIB), event("free_completed", 0, 4 * MIB),
        event("segment_alloc", 100 * MIB, 32 * MIB), event("alloc", 100 * MIB, 31 * MIB),
        {"action": "oom", "addr": None, "size": 1 << 40}, {"action": "snapshot", "addr": 0, "size": 0}, {},
    ]  # fmt: skip
    found = replay(history)
    assert (found.allocations, found.unknown_frees, found.recorded_ooms, found.ooms) == (3, 1, 1, 0)
    assert (found.peak_reserved_bytes, found.recorded_peak_reserved_bytes) == (52 * MIB, 52 * MIB)
    assert found.peak_allocated_bytes == 40 * MIB  # one MiB of the last segment is not split off
    assert found.error_ratio == 0
    columns = ["action", "address", "bytes", "us", "place"]
    rows = [["alloc", 0, 4 * MIB, 1, 0], ["segment_alloc", 0, 20 * MIB, 0, 0]]
    assert replay(expanded(columns, rows)).error_ratio == 0
    assert replay([]).error_ratio is None
    assert replay(history, limit_bytes=40 * MIB).ooms == 1
