"""What a person reads, kept as a value until a face shows it.

A `Text` is an English template and its values. It is turned into a language as late as possible, so that a diagnosis made
once can be read in English by the exporter and in Chinese on the screen, and the screen can switch while it runs.
A value's name ends in its unit, which picks how it is printed: `{free_bytes}` becomes "1.53 GiB".
"""

from __future__ import annotations

import gettext
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_BETWEEN_HAN = re.compile("(?<=[\u4e00-\u9fff\u3002\uff1b\uff1a]) (?=[\u4e00-\u9fff])")
_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_KIB = 1024
_current: list[Language] = ["en"]


@dataclass(frozen=True, slots=True)
class Text:
    """A sentence: an English template, its values, and its Chinese where the catalogue is not the place for it."""

    template: str
    values: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    zh: str | None = None
    """The Chinese template. Set for texts that are data (a rule's own); None means: look in the catalogue."""

    def __str__(self) -> str:
        return render(self)

    def __hash__(self) -> int:
        return hash((self.template, self.zh, repr(self.values)))


def text(template: str, /, **values: Any) -> Text:
    """Make a `Text` from a literal English template; the catalogue's extractor looks for this call."""
    return Text(template, MappingProxyType(values))


def plain(words: str) -> Text:
    """Make a `Text` of words that are the same in every language: a path, a command, another program's own message."""
    return Text("{words}", MappingProxyType({"words": words}), zh="{words}")


def use(language: Language) -> None:
    """Set the language that `render` takes when it is told none."""
    _current[0] = language


def current() -> Language:
    """The language in use."""
    return _current[0]


def language_of(name: str | None, environment: Mapping[str, str] | None = None) -> Language:
    """The language asked for by `name`, or by LC_ALL, LC_MESSAGES or LANG; English where none of them says Chinese."""
    if name is None:
        environment = os.environ if environment is None else environment
        name = next((environment[key] for key in ("LC_ALL", "LC_MESSAGES", "LANG") if environment.get(key)), "en")
    return "zh" if name.lower().startswith("zh") else "en"


def render(words: Text | str, language: Language | None = None) -> str:
    """Give the words in a language, values filled in; a place with no value stays as it is written."""
    if isinstance(words, str):
        return words
    language = language or _current[0]
    template = words.template
    if language == "zh":
        template = words.zh if words.zh is not None else translate(words.template, "zh")
    shown = _PLACE.sub(lambda place: _shown(place[1], place[0], words.values, language), template)
    if language == "zh" and any(isinstance(value, Text) for value in words.values.values()):
        shown = _BETWEEN_HAN.sub("", shown)  # the template has a space for a name in Latin letters
    return shown


def translate(template: str, language: Language | None = None) -> str:
    """Look an English string up in the catalogue; the string itself where the catalogue has none."""
    return _catalogue(language or _current[0]).gettext(template) if template else ""


@cache
def _catalogue(language: Language) -> gettext.NullTranslations:
    if language == "en":
        return gettext.NullTranslations()
    folder = Path(__file__).with_name("locale")
    return gettext.translation("gpuwatch", folder, languages=["zh_CN"], fallback=True)


def _shown(name: str, place: str, values: Mapping[str, Any], language: Language) -> str:
    if name not in values:
        return place
    return show(name, values[name], language)


def show(name: str, value: Any, language: Language | None = None) -> str:
    """Print a value as its name's last word asks: `_bytes`, `_seconds`, `_ratio`, `_celsius`, `_watts`, `_px`."""
    if value is None:
        return "?"
    if isinstance(value, Text):
        return render(value, language)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    unit = name.rpartition("_")[2]
    if unit == "bytes":
        return show_bytes(value)
    if unit == "seconds":
        return show_seconds(value)
    if unit == "ratio":
        return f"{value * 100:.0f} %"
    suffix = {"celsius": " °C", "watts": " W", "px": " px"}.get(unit, "")
    whole = f"{value:,}" if unit == "tokens" else str(value)
    number = whole if isinstance(value, int) else f"{value:g}"
    return number + suffix


_TAB = 8
_CONTROL_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_DROPPED = {0x200D: "", 0xFE0E: "", 0xFE0F: ""}  # joiners and variation selectors: terminals disagree on their width
_HAS_DROPPED = re.compile("[\u200d\ufe0e\ufe0f]")


def visible(words: str) -> str:
    """A line safe to print: tabs expanded, every control, bidi and other invisible character as a visible sign."""
    if words.isprintable() and not _HAS_DROPPED.search(words):
        return words
    signs: list[str] = []
    column = 0
    for character in words:
        if character == "\t":
            sign = " " * (_TAB - column % _TAB)
        elif character.isprintable() and ord(character) not in _DROPPED:
            sign = character
        else:
            sign = _sign(ord(character))
        column += len(sign)
        signs.append(sign)
    return "".join(signs)


@lru_cache(maxsize=256)
def _sign(code: int) -> str:
    if code in _DROPPED:
        return _DROPPED[code]
    if code in _CONTROL_PICTURES:
        return _CONTROL_PICTURES[code]
    if unicodedata.category(chr(code)) == "Zs":
        return " "
    return f"‹U+{code:04X}›"


def show_bytes(count: float) -> str:
    """Print a byte count in binary units with at most two decimals; read back it is within 1 % of the count."""
    size = float(count)
    for unit in _BINARY_UNITS:
        if abs(size) < _KIB or unit == _BINARY_UNITS[-1]:
            break
        size /= _KIB
    if unit == "B":
        return f"{int(count)} B"
    return f"{size:.2f} {unit}" if abs(size) < 100 else f"{size:.0f} {unit}"


def show_seconds(seconds: float) -> str:
    """Print a duration: `12 ms`, `3.4 s`, `2 min 05 s`, `3 h 07 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
