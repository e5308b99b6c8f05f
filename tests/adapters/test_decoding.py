"""A log in any encoding comes out in UTF-8, however it is cut; what is no other encoding passes untouched."""

from __future__ import annotations

import codecs
import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from gpuwatch.adapters.sources.decoding import LOOKED_AT_BYTES, Decoder, begins_as_utf16, decoded
from gpuwatch.errors import UsageError
from gpuwatch.texts import text

RECORDINGS = sorted((Path(__file__).parents[1] / "data" / "recordings").glob("*.log"))
CHINESE = "显存不足，请降低分辨率\n"

words = some.text(
    some.one_of(
        some.characters(min_codepoint=9, max_codepoint=0x7E),
        some.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5),
        some.sampled_from("\n\r\r\n，。：【】█🚀😀\u200d上丘"),
    ),
    max_size=200,
)
cuts = some.lists(some.integers(0, 2000), max_size=8)


def decode(data: bytes, places: list[int]) -> bytes:
    decoder = Decoder()
    borders = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return b"".join(decoder.feed(data[start:end]) for start, end in pairwise(borders)) + decoder.flush()


def byte_by_byte(data: bytes) -> bytes:
    return decode(data, list(range(len(data))))


@given(words, cuts)
def test_utf8_passes_and_loses_a_mark(said: str, places: list[int]) -> None:
    assert decode(said.encode(), places) == said.encode()
    assert decode(codecs.BOM_UTF8 + said.encode(), places) == said.encode()


@given(words, cuts, some.sampled_from(["utf-16-le", "utf-16-be"]))
def test_utf16_with_a_mark(said: str, places: list[int], encoding: str) -> None:
    assert decode(("\ufeff" + said).encode(encoding), places) == said.encode()


@given(words, cuts, some.sampled_from(["utf-16-le", "utf-16-be"]), some.sampled_from(["ok", "[显存] ", "a上不足\n"]))
def test_utf16_without_a_mark(said: str, places: list[int], encoding: str, begin: str) -> None:
    assert decode((begin + said).encode(encoding), places) == (begin + said).encode()


@given(words, cuts, some.sampled_from([CHINESE, "plain banner\r\nC:\\> " + CHINESE, "\n🚀 启动完成\n"]))
def test_gb18030_once_a_line_proves_it(said: str, places: list[int], begin: str) -> None:
    assert decode((begin + said).encode("gb18030"), places) == (begin + said).encode()


@given(some.binary(max_size=3000), cuts)
def test_random_bytes_never_raise_and_mean_the_same_however_cut(data: bytes, places: list[int]) -> None:
    once = decode(data, [])
    assert decode(data, places) == once
    if b"\0" not in data[:2] and not data.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        assert once == data


@given(
    some.lists(some.sampled_from(["été ", "25°C ", "Größe ", "naïve ", "—", "µs ", "ÄÄÄÄ", "\n", "\r", "ok "])), cuts
)
def test_latin_letters_are_not_taken_for_chinese(pieces: list[str], places: list[int]) -> None:
    said = "".join(pieces)
    for encoding in ("utf-8", "cp1252"):
        assert decode(said.encode(encoding), places) == said.encode(encoding)


@given(words.map(lambda said: CHINESE + said), some.integers(0, 400), cuts)
def test_cut_utf8_is_never_chinese_of_another_kind(said: str, begin: int, places: list[int]) -> None:
    cut = said.encode()[:begin]
    assert decode(cut, places) == cut


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name)
def test_a_recording_passes_byte_for_byte(path: Path) -> None:
    data = path.read_bytes()
    choice = random.Random(7)  # noqa: S311 - cuts, not secrets
    assert byte_by_byte(data) == data
    assert decode(data, [choice.randrange(len(data)) for _ in range(40)]) == data


def test_ascii_never_waits_and_half_a_line_waits_only_for_what_it_is() -> None:
    decoder = Decoder()
    assert decoder.feed(b"") == b""
    assert decoder.feed(b"s") == b"s"
    assert decoder.feed(b"tarting\r 10%|") == b"tarting\r 10%|"
    assert decoder.feed("█".encode() + b" 1/10") == "█".encode() + b" 1/10"
    assert decoder.feed(b"\xff") == b"\xff"


def test_half_a_line_in_chinese_comes_once_three_characters_are_there() -> None:
    decoder = Decoder()
    assert decoder.feed(b"banner\nerror: " + "显存".encode("gb18030")) == b"banner\nerror: "
    assert decoder.feed("不足".encode("gb18030")) == "显存不足".encode()


def test_no_more_than_a_few_kibibytes_wait() -> None:
    decoder = Decoder()
    odd = "é".encode() * LOOKED_AT_BYTES
    given_bytes = b"".join(decoder.feed(odd[at : at + 100]) for at in range(0, len(odd), 100))
    assert len(given_bytes) >= len(odd) - LOOKED_AT_BYTES
    assert given_bytes + decoder.flush() == odd


def test_a_log_that_proves_nothing_is_soon_taken_as_it_is() -> None:
    decoder = Decoder()
    decoder.feed(b"25 \xb0C\n" * 100)
    assert decoder.feed(b"\xcf") == b"\xcf"


def test_two_characters_prove_nothing_three_in_two_lines_do() -> None:
    first, second = "错误: 1\n".encode("gb18030"), "错误: 显存\n".encode("gb18030")
    assert decode(first, []) == first
    assert byte_by_byte(first + second) == first + "错误: 显存\n".encode()


def test_what_cannot_be_decoded_is_marked_and_the_rest_goes_on() -> None:
    broken = CHINESE.encode("gb18030") + b"\xff\n\xb4\n" + CHINESE.encode("gb18030")
    assert byte_by_byte(broken).decode() == CHINESE + "\ufffd\n\ufffd\n" + CHINESE
    lone = "\ufeffa\ud800\nb".encode("utf-16-le", "surrogatepass") + b"x"
    assert byte_by_byte(lone).decode() == "a\ufffd\nb\ufffd"


@pytest.mark.parametrize(
    "begin", [b"\0", b"\0\0\0\0after a hole", b"a\0", b"a\0\0\0b\0", b"a", b"\xef\xbb", b"\xff", b""]
)
def test_what_only_begins_like_another_encoding_is_untouched(begin: bytes) -> None:
    assert decode(begin, []) == byte_by_byte(begin) == begin
    assert not begins_as_utf16(begin)


def test_only_one_mark_is_taken_off() -> None:
    assert decode(codecs.BOM_UTF8 + b"\xfe\xff\n", []) == byte_by_byte(codecs.BOM_UTF8 + b"\xfe\xff\n") == b"\xfe\xff\n"


def test_a_binary_that_begins_like_utf16_is_given_up() -> None:
    data = b"a\0" + "显".encode("utf-16-le") * LOOKED_AT_BYTES
    assert decode(data, []) == byte_by_byte(data) == data


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "utf-8", "gb18030"])
def test_reading_on_in_the_middle_knows_what_the_begin_told(encoding: str) -> None:
    begin, later = ("[1] " + CHINESE).encode(encoding), CHINESE.encode(encoding.replace("-sig", ""))
    decoder = Decoder.midway(begin)
    assert decoder.unit_bytes == (2 if encoding.startswith("utf-16") else 1)
    assert decoder.feed(later.removeprefix(codecs.BOM_UTF16_LE)).decode() == CHINESE


def test_what_came_before_a_failure_is_given_before_it() -> None:
    def chunks() -> Iterator[bytes]:
        yield "\ufeffhalf a character: ".encode("utf-16-le") + b"x"
        yield b""
        raise UsageError(text("it broke"))

    pieces = decoded(chunks())
    assert [next(pieces), next(pieces), next(pieces)] == [b"half a character: ", b"", "\ufffd".encode()]
    with pytest.raises(UsageError, match="broke"):
        next(pieces)
