"""Lines that a window cut in two are whole again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuwatch.core.rejoining import LONGEST_PASTED_BYTES, rejoined
from tests.core.engine_log import NATIVE, Log

MESSAGE = f"torch.OutOfMemoryError: {NATIVE}"


def cut(text: str, width: int, end: str = "\n") -> str:
    lines = text.split("\n")
    rows = [line[at : at + width] for line in lines for at in range(0, max(len(line), 1), width)]
    return end.join(rows)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_message_cut_at_any_place_is_known_again(width: int, end: str) -> None:
    for indent in range(40):
        pasted = cut(f"{'x' * indent} {MESSAGE}\nKilled\n", width, end).encode()
        whole = rejoined(pasted)
        assert len(whole) == len(pasted)
        assert whole.split(end.encode())[0] == f"{'x' * indent} {MESSAGE}".encode()
        assert whole.count(b"\n") == pasted.count(b"\n")
    log = Log()
    log.say(whole.decode())
    log.end()
    assert [(i.label, i.line) for i in log.incidents.values()] == [
        ("cuda_oom", 1),
        ("host_oom_killed", pasted.count(b"\n")),
    ]


def test_chinese_characters_take_two_columns() -> None:
    assert rejoined(("显" * 40 + "\n存不足\n").encode()) == ("显" * 40 + "存不足\n\n").encode()
    assert rejoined(("显" * 39 + "\n存不足\n").encode()) == ("显" * 39 + "\n存不足\n").encode()


@pytest.mark.parametrize(
    "pasted",
    [
        "x" * 79 + "\nrest",
        "x" * 80 + "\n" + "x" * 81,
        "x" * 79 + "|\nrest",
        "x" * 80 + "\n[ERROR] rest",
        "x" * 80 + "\nRuntimeError: odd",
        "x" * 80 + "\n\nrest",
        "x" * 80 + "\rrest\n",
        "x" * 80 + "\n" + "y\n" * LONGEST_PASTED_BYTES,
        "",
    ],
)
def test_what_no_window_cut_stays_as_it_is(pasted: str) -> None:
    assert rejoined(pasted.encode()) == pasted.encode()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=6) | st.just(b"a" * 80) | st.just(b"\n"), max_size=20))
def test_no_byte_is_lost_and_no_line_moves_up(parts: list[bytes]) -> None:
    pasted = b"".join(parts)
    again = rejoined(pasted)
    assert again.replace(b"\n", b"").replace(b"\r", b"") == pasted.replace(b"\n", b"").replace(b"\r", b"")
    assert (len(again), again.count(b"\n")) == (len(pasted), pasted.count(b"\n"))
