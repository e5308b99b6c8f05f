"""Bytes in, records out."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwatch.core.records import LONGEST_RECORD_BYTES, Cutter, LogRecord

RECORDINGS = sorted((Path(__file__).parents[1] / "data" / "recordings").glob("*.log"))
BAR = "\r  8%|▊         | 1/12 [00:00<00:01,  6.65it/s]".encode()


def cut(data: bytes) -> list[LogRecord]:
    cutter = Cutter()
    return [*cutter.feed(data), *cutter.flush()]


def texts(data: bytes) -> list[bytes]:
    return [record.text for record in cut(data)]


@pytest.mark.parametrize(
    ("line", "text", "level"),
    [
        (b"\x1b[1m\x1b[31m[ERROR]\x1b[0m Got an OOM", b"Got an OOM", "error"),
        (
            b"\x1b[32m[INFO]\x1b[0m \x1b[32mPrompt executed in 0.25 seconds\x1b[0m",
            b"Prompt executed in 0.25 seconds",
            "info",
        ),
        ("[ERROR]\u00a0CUDA error:\u00a0out of\u00a0memory".encode(), b"CUDA error: out of memory", "error"),
        (b"[2026-11-21 00:50:35.049] !!! Exception", b"!!! Exception", None),
        (b"[2026-11-21 00:15:26,963] [WARNING] low", b"low", "warning"),
        (b"[2026-11-21 00:15] ERROR:root:Failed to validate", b"Failed to validate", "error"),
        (b"[2026-11-21 00:15] ", b"", None),
        (b"2025-09-16T10:19:50.336521 - got prompt", b"got prompt", None),
        (b"2024-09-06 19:09:30,629 - root - ERROR - !!! Exception", b"!!! Exception", "error"),
        (b'openedai  |   File "x.py", line 3, in f', b'  File "x.py", line 3, in f', None),
        (b"2026-11-21T00:15:26.963481Z stderr F CUDA error", b"CUDA error", None),
        (b"[rank0]: RuntimeError: CUDA error", b"RuntimeError: CUDA error", None),
        (b"Jul 24 12:26:16 host kernel: [drm] VRAM is lost", b"[drm] VRAM is lost", None),
        (b"[14328.198504] NVRM: Xid (PCI:0000:0a:00): 31", b"NVRM: Xid (PCI:0000:0a:00): 31", None),
        (b"[Fri Aug 30 11:43:09 2024] NVRM: Xid", b"NVRM: Xid", None),
        (b"08:23:05-895442 INFO     Starting SD.Next", b"Starting SD.Next", "info"),
        (b"> [ERROR] quoted", b"quoted", "error"),
        (b"2025-03-15T22:57:28.208512 - Device: cuda:0 X : native", b"Device: cuda:0 X : native", None),
        (b"    indented stays", b"    indented stays", None),
        (b"2026-01-01 12:00:00,123 ERROR CUDA error: odd", b"CUDA error: odd", "error"),
        (b"2026/01/01 12:00:00 [WARNING] low", b"low", "warning"),
        (b"2026-01-01 12:00:00.123 | ERROR    | pack.mod:run:12 - CUDA error", b"CUDA error", "error"),
        (b"ERROR:root:!!! Exception", b"!!! Exception", "error"),
        (b"WARNING:pack.mod:low", b"low", "warning"),
        (b"ERROR:odd_function: not a logger's name", b"ERROR:odd_function: not a logger's name", None),
        (b"ComfyUI-0 on port 7821 stderr: CUDA error", b"CUDA error", None),
        (b"12:00:00.123 [Warning] [ComfyUI-0/STDERR] Killed", b"Killed", None),
        (b"[2026-01-02 10:00:00,123]::[ModelManagerService]::ERROR --> Killed", b"Killed", "error"),
        (b"[12:00:00] Killed", b"Killed", None),
        (b"0|comfyui  | Killed", b"Killed", None),
        (b"[pod/comfyui-7d9f/main] Killed", b"Killed", None),
        (b"(RayWorker pid=4009, ip=10.0.0.7) [rank1]: CUDA error", b"CUDA error", None),
        (b"comfyui  | 2026-01-01T12:00:00.123456789Z CUDA error: odd", b"CUDA error: odd", None),
        (b"2026-01-01T12:00:00+0000 box python3[123]: CUDA error: odd", b"CUDA error: odd", None),
        (b"Aug 09 11:36:30.370347 kernel: amdgpu 0000:0c:00.0: odd", b"amdgpu 0000:0c:00.0: odd", None),
        (b"[31m[ERROR][0m its escape bytes were lost", b"its escape bytes were lost", "error"),
        (b"[Bug]: CUDA error", b"CUDA error", None),
        ("❌ CUDA error".encode(), b"CUDA error", None),
        (
            b'{"log":"\\u001b[31mnot \\"said\\"\\n","stream":"stderr","time":"2026-01-01T12:00:00Z"}',
            b'not "said"',
            None,
        ),
        (b'{"log":"\\r 10%\\rKilled\\r\\n","stream":"stdout","time":"2026-01-01T12:00:00Z"}', b"Killed", None),
        (b'{"log":"broken \\q","stream":"stdout"}', b'{"log":"broken \\q","stream":"stdout"}', None),
        (b"[ComfyUI-Manager] a tag that is no level", b"[ComfyUI-Manager] a tag that is no level", None),
    ],
)
def test_prefixes_come_off_and_the_level_is_kept(line: bytes, text: bytes, level: str | None) -> None:
    (record,) = cut(line + b"\n")
    assert (record.text, record.level, record.raw) == (text, level, line)


def test_frames_of_a_bar_are_no_records_and_the_last_is_kept_apart() -> None:
    cutter = Cutter()
    assert list(cutter.feed(BAR * 20)) == []
    assert b"1/12" in cutter.bar


def test_a_frame_that_shows_nan_is_a_record() -> None:
    calm = "\rsteps:   1%|▏  | 16/1600 [01:12<1:52:31,  4.26s/it, avr_loss=0.1]".encode()
    spoilt = calm.replace(b"0.1]", b"nan]")
    assert texts(calm * 3 + spoilt + calm + b"\n") == [spoilt[1:]]
    assert texts(calm.replace(b"steps:", b"nanobanana:") * 3 + b"\n") == []


def test_what_is_printed_onto_an_open_bar_is_a_record() -> None:
    glued = BAR + b"\x1b[32m[INFO]\x1b[0m got prompt\n"
    (record,) = cut(glued)
    assert (record.text, record.level) == (b"got prompt", "info")


def test_lines_are_counted_by_newlines_alone() -> None:
    assert [(record.line, record.text) for record in cut(b"a\r\nb\rc\nd")] == [
        (1, b"a"),
        (2, b"b"),
        (2, b"c"),
        (3, b"d"),
    ]


def test_an_empty_line_is_a_record_and_an_empty_segment_is_none() -> None:
    assert texts(b"a\n\nb\n\r\r\rc\n") == [b"a", b"", b"b", b"c"]


def test_a_line_without_end_is_kept_within_bounds() -> None:
    cutter = Cutter()
    for _ in range(1000):
        assert list(cutter.feed(b"x" * 10_000)) == []
    (record,) = cutter.feed(b"\n")
    assert record.long
    assert len(record.text) == LONGEST_RECORD_BYTES
    (following,) = cutter.feed(b"after\n")
    assert (following.line, following.text, following.long) == (2, b"after", False)


def test_bytes_that_are_no_utf8_pass_untouched() -> None:
    assert texts(b"\xff\xfe\x00\x80 CUDA\n") == [b"\xff\xfe\x00\x80 CUDA"]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_cutting_a_recording_byte_by_byte_changes_nothing(path: Path) -> None:
    data = path.read_bytes()
    cutter = Cutter()
    pieces = [record for byte in data for record in cutter.feed(bytes([byte]))]
    assert [*pieces, *cutter.flush()] == cut(data)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"\r",
                b"\n",
                b"\r\n",
                BAR,
                BAR[:-1] + b", loss=nan]",
                b"[INFO] ",
                b"\x1b[31m",
                b"text",
                b"\x00",
                "显存".encode(),
                b" ",
                b"\xc2\xa0",
            ]
        ),
        max_size=30,
    ),
    st.lists(st.integers(0, 400), max_size=12),
)
def test_cutting_anywhere_gives_the_same_records(parts: list[bytes], places: list[int]) -> None:
    data = b"".join(parts)
    cutter, start, records = Cutter(), 0, []
    for place in sorted(min(place, len(data)) for place in places):
        records += cutter.feed(data[start:place])
        start = place
    records += [*cutter.feed(data[start:]), *cutter.flush()]
    assert records == cut(data)


def test_returns_in_a_row_are_one_line_end() -> None:
    cutter = Cutter()
    got = [record.text for record in cutter.feed(b"a" + b"\r" * 5000 + b"b\r\r\nc\n")]
    assert got == [b"a", b"b", b"", b"c"]
    assert cutter.line == 3
