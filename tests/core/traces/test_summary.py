"""A trace's events in, its tables out. The events have the form that PyTorch 2 writes on a machine with a GPU."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gpuwatch.core.traces import trace as module
from gpuwatch.core.traces.compare import compare
from gpuwatch.core.traces.holders import held_by
from gpuwatch.core.traces.summary import Summary, summarise
from gpuwatch.core.traces.trace import Trace

T = 1_000_000.0
"""When the trace begins, in microseconds."""


def span(name: str, cat: str, at: float, length: float, **more: Any) -> dict[str, Any]:
    return {"ph": "X", "name": name, "cat": cat, "pid": 10, "tid": 11, "ts": T + at, "dur": length, **more}


def on_gpu(name: str, cat: str, at: float, length: float, *, stream: int = 7, **args: Any) -> dict[str, Any]:
    return span(name, cat, at, length, pid=0, tid=stream, args={"device": 0, "stream": stream, **args})


def memory(at: float, change: int, total: int, address: int, *, device: int = 1) -> dict[str, Any]:
    args = {"Total Reserved": 8192, "Total Allocated": total, "Bytes": change, "Addr": address,
            "Device Id": 0 if device else -1, "Device Type": device}  # fmt: skip
    return {"ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]", "pid": 10, "tid": 11, "ts": T + at,
            "args": args}  # fmt: skip


EVENTS = [
    {"ph": "M", "name": "process_name", "pid": 10, "tid": 0, "ts": T, "args": {"name": "python"}},
    span("ProfilerStep#2", "user_annotation", 0, 1000),
    span("encoder", "user_annotation", 10, 400),
    span("aten::conv2d", "cpu_op", 20, 200),
    span("aten::empty", "cpu_op", 30, 10),
    memory(35, 4096, 4096, 0xA000),
    span("cudaLaunchKernel", "cuda_runtime", 60, 20),
    span("aten::relu", "cpu_op", 300, 50),
    memory(310, 1024, 5120, 0xB000),
    memory(340, -1024, 4096, 0xB000),
    span("refine", "user_annotation", 500, 100),
    span("aten::relu", "cpu_op", 510, 60),
    memory(520, 2048, 6144, 0xC000),
    on_gpu("conv_kernel", "kernel", 100, 300),
    on_gpu("relu_kernel", "kernel", 400, 100),
    on_gpu("relu_kernel", "kernel", 450, 100, stream=8),
    on_gpu("Memcpy HtoD (Pinned -> Device)", "gpu_memcpy", 50, 25, bytes=1 << 20),
    on_gpu("Memcpy DtoH (Device -> Pageable)", "gpu_memcpy", 900, 50, bytes=1 << 10),
    on_gpu("encoder", "gpu_user_annotation", 100, 400),
    {"ph": "s", "id": 1, "pid": 10, "tid": 11, "ts": T + 60, "cat": "ac2g", "name": "ac2g"},
    {"ph": "C", "name": "GPU power watts", "pid": 10, "ts": T + 5, "args": {"value": 100.0}},
    {"ph": "C", "name": "GPU power watts", "pid": 10, "ts": T + 25, "args": {"value": 300.0}},
    span("PyTorch Profiler (0)", "Trace", -50, 5000),
]


def summary_of(events: list[Any]) -> Summary:
    return summarise(trace_of(events))


def trace_of(events: list[Any]) -> Trace:
    trace = Trace()
    for event in events:
        trace.take(event)
    return trace


def test_a_counter_that_no_float_holds_is_passed_over() -> None:
    found = Trace()
    for value in (10**400, -(10**400), float("inf"), float("nan"), 2.0):
        found.take({"ph": "C", "name": "watts", "pid": 1, "ts": T, "args": {"value": value}})
    assert (found.counters["watts"].count, found.counters["watts"].total) == (1, 2.0)


def test_a_gpu_trace_in_tables() -> None:
    summary = summary_of(EVENTS)
    assert (summary.events, summary.unusable, summary.left_out, summary.steps) == (len(EVENTS), 0, 0, 1)
    assert summary.window_seconds == pytest.approx(1000e-6)
    assert [(row.name, row.count, round(row.own_seconds * 1e6)) for row in summary.kernels] == [
        ("conv_kernel", 1, 300),
        ("relu_kernel", 2, 200),
        ("Memcpy DtoH (Device -> Pageable)", 1, 50),
        ("Memcpy HtoD (Pinned -> Device)", 1, 25),
    ]
    assert [(row.name, row.count, round(row.own_seconds * 1e6)) for row in summary.operators] == [
        ("aten::conv2d", 1, 200 - 10 - 20),
        ("aten::relu", 2, 110),
        ("aten::empty", 1, 10),
    ]
    (idle,) = summary.idle
    # 50-75, 100-550 with two streams at once, 900-950
    assert (idle.device, round(idle.busy_seconds * 1e6)) == ("0", 25 + 450 + 50)
    assert idle.ratio == pytest.approx(0.475)
    assert [(round(at * 1e6), round(length * 1e6)) for at, length in idle.gaps[:2]] == [(550, 350), (0, 50)]
    assert [(each.direction, each.count, each.size_bytes) for each in summary.copies] == [
        ("DtoH", 1, 1 << 10),
        ("HtoD", 1, 1 << 20),
    ]
    encoder, refine = summary.stages
    assert (encoder.name, round(encoder.host_seconds * 1e6), round((encoder.gpu_seconds or 0) * 1e6)) == (
        "encoder", 400, 400,
    )  # fmt: skip
    assert (encoder.peak_bytes, refine.peak_bytes, refine.gpu_seconds) == (5120, 6144, None)
    (counter,) = summary.counters
    assert (counter.name, counter.samples, counter.low, counter.mean, counter.high) == (
        "GPU power watts", 2, 100, 200, 300,
    )  # fmt: skip
    assert {row.kind: round(row.own_seconds * 1e6) for row in summary.kinds} == {
        "kernel": 500, "user_annotation": 500 - 250 - 60, "cpu_op": 290, "gpu_memcpy": 75, "cuda_runtime": 20,
    }  # fmt: skip


def test_the_order_of_events_in_the_file_does_not_matter() -> None:
    shuffled = random.Random(5).sample(EVENTS, len(EVENTS))  # noqa: S311 - the same each time
    assert summary_of(shuffled) == summary_of(EVENTS)


def test_memory_at_the_peak_is_told_by_operator_and_stage() -> None:
    trace = trace_of(EVENTS)
    (peak,) = summarise(trace).memory
    assert (peak.device, peak.peak_bytes, peak.earlier_bytes, peak.most_reserved_bytes) == ("cuda:0", 6144, 0, 8192)
    assert [(each.operator, each.stage, each.size_bytes) for each in held_by(trace, peak)] == [
        ("aten::conv2d", "encoder", 4096),
        ("aten::relu", "refine", 2048),
    ]
    assert max(peak.timeline_bytes) == 6144
    assert peak.timeline_bytes[0] == 4096


def test_memory_held_before_the_record_is_told_apart() -> None:
    events = [memory(0, 100, 1100, 1), memory(1, 400, 1500, 2), memory(2, -400, 1100, 2)]
    (peak,) = summary_of(events).memory
    assert (peak.begin_bytes, peak.peak_bytes, peak.earlier_bytes) == (1000, 1500, 1000)


def test_a_cpu_trace_has_the_operators_idle_share() -> None:
    events = [span("aten::mm", "cpu_op", 0, 100), span("aten::add", "cpu_op", 300, 100)]
    summary = summary_of(events)
    assert not summary.has_gpu
    assert [(idle.device, idle.ratio) for idle in summary.idle] == [("cpu", 0.5)]
    assert summary.work == summary.operators


def test_old_traces_and_paired_events() -> None:
    events = [
        span("aten::mm", "Operator", 0, 100),
        span("sgemm", "Kernel", 10, 50),
        span("Memcpy DtoD (Device -> Device)", "Memcpy", 70, 10, args={"bytes": 5, "device": 0}),
        {"ph": "B", "name": "outer", "cat": "cpu_op", "pid": 1, "tid": 1, "ts": T},
        {"ph": "B", "name": "inner", "cat": "cpu_op", "pid": 1, "tid": 1, "ts": T + 10},
        {"ph": "E", "pid": 1, "tid": 1, "ts": T + 30},
        {"ph": "E", "pid": 1, "tid": 1, "ts": T + 100},
        {"ph": "E", "pid": 1, "tid": 1, "ts": T + 100},
        span("ProfilerStep#1", "Operator", 0, 200),
    ]
    summary = summary_of(events)
    assert {row.name: round(row.own_seconds * 1e6) for row in summary.operators} == {
        "aten::mm": 100, "outer": 80, "inner": 20,
    }  # fmt: skip
    assert [row.kind for row in summary.kernels] == ["kernel", "gpu_memcpy"]
    assert (summary.steps, summary.unusable) == (1, 1)


@pytest.mark.parametrize(
    "event",
    [
        "text", 7, None, [], {}, {"ph": "X"}, {"ph": "X", "ts": "soon", "dur": 1, "name": "a", "cat": "cpu_op"},
        span("a", "cpu_op", 0, -5), span("a", "cpu_op", float("nan"), 5), span("a", "cpu_op", 1e300, 5),
        {**span("a", "cpu_op", 0, 5), "name": 7}, {**span("a", "cpu_op", 0, 5), "cat": ["x"]},
        {**span("a", "cpu_op", 0, 5), "dur": None}, {"ph": "i", "name": "[memory]", "ts": T, "args": []},
        {"ph": "i", "name": "[memory]", "ts": T, "args": {"Bytes": "many"}}, {"ph": "C", "name": "a", "args": 1},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_counted_and_does_no_harm(event: Any) -> None:
    summary = summary_of([event, *EVENTS])
    assert summary.unusable == 1
    assert summary.kernels == summary_of(EVENTS).kernels


def test_odd_threads_and_negative_times_are_taken() -> None:
    events = [
        {**span("a", "cpu_op", 0, 5), "tid": ["a", "list"]},
        {**span("b", "cpu_op", 0, 5), "pid": {"an": "object"}},
        span("c", "cpu_op", -T - 50, 5),
    ]
    summary = summary_of(events)
    assert (summary.unusable, len(summary.operators)) == (0, 3)
    assert summary.window_seconds == pytest.approx(1.000055)


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SPANS", 5)
    monkeypatch.setattr(module, "MOST_LANES", 2)
    many = [{**span("a", "cpu_op", at, 1), "tid": at} for at in range(4)] + [span("a", "cpu_op", 9, 1)] * 9
    trace = trace_of(many)
    assert trace.spans == 5
    assert len(trace.host) == 2
    assert trace.left_out == 2 + 1 + 8


def test_two_traces_are_compared_by_the_step() -> None:
    later = [
        {**event, "ts": event["ts"] + 5000} for event in EVENTS if event.get("name") not in {"refine", "aten::empty"}
    ]
    slower = [{**event, "dur": event["dur"] * 2} if event.get("cat") == "kernel" else event for event in later]
    twice = [*slower, *({**event, "ts": event["ts"] + 2000} for event in slower)]
    comparison = compare(summary_of(EVENTS), summary_of([*twice, span("new_kernel", "kernel", 6000, 10)]))
    assert comparison.by_step
    by_name = {change.name: change for change in comparison.kernels}
    assert by_name["conv_kernel"].times == pytest.approx(2)
    assert by_name["conv_kernel"].delta_seconds == pytest.approx(300e-6)
    assert comparison.kernels[0].name == "conv_kernel"
    assert (by_name["new_kernel"].first_seconds, by_name["new_kernel"].times) == (None, None)
    gone = next(change for change in comparison.stages if change.name == "refine")
    assert (gone.second_seconds, gone.delta_seconds) == (None, pytest.approx(-100e-6))
