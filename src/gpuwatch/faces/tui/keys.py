"""The keys: one table from which the bindings, the line at the bottom and the help are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from gpuwatch.faces.tui.paint import Row, Span, padded, row, width_of, wrapped
from gpuwatch.faces.tui.pane import OneLine, Rows
from gpuwatch.texts import Language, Text, current, render, text
from gpuwatch.texts import translate as _


@dataclass(frozen=True, slots=True)
class Key:
    """A key that works everywhere."""

    keys: str
    """As Textual names them."""
    shown: str
    action: str
    short: Text
    """For the line at the bottom."""
    meaning: Text
    """For the help."""
    rank: int = 99
    """How soon it has a place at the bottom; 99 never."""
    acts: bool = False
    """Whether it writes a file or asks a server for something; a screen that is read-only refuses it."""
    in_browser: Text | None = None
    """Its meaning in a browser, where that is another."""

    def meaning_in(self, *, browser: bool) -> Text:
        """What it does there."""
        return self.in_browser if browser and self.in_browser is not None else self.meaning


KEYS: tuple[Key, ...] = (
    Key("question_mark", "?", "help", text("help"), text("every key: this page"), 1),
    Key("e", "e", "incident(1)", text("next failure"), text("next failure: here and in the log"), 3),
    Key("E", "E", "incident(-1)", text("previous"), text("previous failure"), 8),
    Key("x", "x", "export", text("export"), text("write the chosen failure to a file"), 13, acts=True),
    Key("d", "d", "acknowledge", text("seen"), text("acknowledge the failure; again: take it back")),
    Key(
        "a",
        "a",
        "mend",
        text("fix the job"),
        text("plan a fix of the failed job on its server; again: queue it in front"),
        4,
        acts=True,
    ),
    Key("A", "A", "mend_alike", text("fix alike"), text("the same, for all jobs that failed alike"), acts=True),
    Key(
        "Q",
        "Q",
        "put_back",
        text("queue again"),
        text("queue again the jobs that waited when the server was restarted; again: do it"),
        acts=True,
    ),
    Key("y", "y", "copy_lines", text("copy lines"), text("copy the selected lines of the log, or the marked one")),
    Key("c", "c", "copy", text("copy"), text("copy the chosen fix's command"), 4),
    Key("slash", "/", "search", text("search"), text("search the log; re:PATTERN is a pattern"), 2),
    Key("n", "n", "found(True)", text("next hit"), text("next line that holds it")),
    Key("N", "N", "found(False)", text("previous hit"), text("previous line that holds it")),
    Key("i", "i", "only", text("only"), text("show only lines with these words, also those to come")),
    Key("o", "o", "without", text("without"), text("hide lines with these words")),
    Key("colon", ":", "go", text("go to"), text("go to a line's number or to a time")),
    Key("h", "h", "histogram", text("when"), text("when how much was said: lines, warnings, errors over time")),
    Key("f", "f", "follow", text("follow"), text("follow the end of the log"), 5),
    Key("p", "p", "page('gpu')", text("GPU"), text("the GPUs over time, processes, host memory; again: back"), 6),
    Key("J", "J", "page('jobs')", text("jobs"), text("the queue, what runs, what ended; again: back"), 12),
    Key("R", "R", "page('runner')", text("runner"), text("a run of the DDColor runner; again: back")),
    Key("H", "H", "page('home')", text("failures"), text("the failures and the log")),
    Key("right_square_bracket", "]", "turn(1)", text("next page"), text("the next page; a click on its name does too")),
    Key("left_square_bracket", "[", "turn(-1)", text("page before"), text("the page before")),
    Key(
        "m",
        "m",
        "mute",
        text("mute"),
        text("mute this failure's rule, its label or lines like it; a muted one: unmute"),
        9,
        acts=True,
    ),
    Key("M", "M", "show_muted", text("muted"), text("list muted failures too; again: hide them")),
    Key("z", "z", "zoom", text("zoom"), text("this pane alone; again: all of them"), 11),
    Key("l", "l", "language", text("language"), text("English or Chinese"), 7),
    Key("t", "t", "theme", text("theme"), text("dark, light, high contrast, sixteen colours"), 10),
    Key("escape", "Esc", "dismiss", text("back"), text("end the search, the zoom, the notice, the choice")),
    Key("q", "q", "leave", text("quit"), text("quit; Ctrl-C does too"), 0, in_browser=text("end this page's screen")),
)
_BACKGROUND = "^Z"
"""A browser has no background: there it does nothing."""
MOVES: tuple[tuple[str, Text], ...] = (
    ("Tab  Shift-Tab", text("the next or previous pane; a click does too")),
    ("j k  ↓ ↑", text("down and up; in the list: choose a failure")),
    ("g G  Home End", text("first and last")),
    ("PgDn PgUp  ^D ^U", text("a page down and up")),
    ("^P", text("the command palette: every key by its meaning")),
    (_BACKGROUND, text("to the background; fg comes back")),
    ("s", text("on the GPU page: sort the processes")),
    ("1 … 9", text("choose a fix by its number")),
    ("Enter", text("in the list: show the failure in the log")),
    ("← →  0", text("in the log: sideways, back to the margin")),
    ("r  w", text("in the log: as printed or tidied; long lines wrapped or not")),
    ("b  B", text("in the log: bookmark, next bookmark")),
    ("v  y", text("in the log: select lines, copy them; the mouse selects too")),
)
SIGNS: tuple[tuple[str, Text], ...] = (
    ("✖ ✗ ▲ ·", text("critical, error, warning, info")),
    ("● ○ ■", text("live, idle or waiting, ended")),
    ("◂", text("in the log's margin: a failure is there; click to go")),
)


def keys_of(*, read_only: bool) -> tuple[Key, ...]:
    """The keys that this screen has."""
    return tuple(key for key in KEYS if not (read_only and key.acts))


_OTHER_LANGUAGE: dict[Language, str] = {"en": "中文", "zh": "English"}


class KeyBar(OneLine):
    """The keys that matter most, on the last line; a click is as good as the key."""

    def __init__(self, *, id: str, read_only: bool = False) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._keys = keys_of(read_only=read_only)
        self._places: list[tuple[int, int, str]] = []

    def draw(self) -> None:
        """Draw as many as fit."""
        chosen: list[Key] = []
        room = self.size.width - 1
        for key in sorted((key for key in self._keys if key.rank < 99), key=lambda key: key.rank):
            size = width_of(key_spans(key))
            if size <= room:
                chosen.append(key)
                room -= size
        spans: list[Span] = []
        self._places = []
        for key in (key for key in self._keys if key in chosen):
            start = width_of(spans)
            spans += key_spans(key)
            self._places.append((start, width_of(spans), key.action))
        self.show(row(*spans, back="quiet"))

    async def on_click(self, event: events.Click) -> None:
        """Do what the key does."""
        for start, end, action in self._places:
            if start <= event.x < end:
                await self.app.run_action(action)


def key_spans(key: Key) -> list[Span]:
    """A key and its word."""
    word = _OTHER_LANGUAGE[current()] if key.action == "language" else render(key.short)
    return [(f" {key.shown} ", "key"), (word + " ", "dim")]


class Help(ModalScreen[None]):
    """Every key."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter,space", "dismiss", show=False),
        Binding("j,down", "scroll(1)", show=False),
        Binding("k,up", "scroll(-1)", show=False),
    ]

    def __init__(self, *, read_only: bool = False, in_browser: bool = False) -> None:
        super().__init__()
        self._keys = keys_of(read_only=read_only)
        self._in_browser = in_browser

    def compose(self) -> ComposeResult:
        """A sheet in the middle."""
        with Vertical(id="help"):
            yield Rows(id="help-rows")

    def on_mount(self) -> None:
        """Fill it."""
        self.call_after_refresh(self._fill)

    def on_resize(self) -> None:
        """Fill it for the new width."""
        self.call_after_refresh(self._fill)

    def _fill(self) -> None:
        rows = self.query_one(Rows)
        rows.show(help_rows(max(rows.size.width, 20), self._keys, in_browser=self._in_browser))

    def action_scroll(self, lines: int) -> None:
        """Scroll, where the terminal is small."""
        self.query_one(Rows).scroll_relative(y=lines, animate=False)

    async def action_dismiss(self, result: None = None) -> None:
        """Close it."""
        self.dismiss(result)


def help_rows(width: int, keys: Sequence[Key] = KEYS, *, in_browser: bool = False) -> list[Row]:
    """The page."""
    meanings = [(key.shown, key.meaning_in(browser=in_browser)) for key in keys]
    moves = [move for move in MOVES if not (in_browser and move[0] == _BACKGROUND)]
    rows = [row(("gpuwatch  ", "title"), (_("sees a GPU failure, says why, and what helps"), "dim"))]
    for title, entries in (
        (_("Keys"), meanings),
        (_("Moving"), moves),
        (_("Signs"), SIGNS),
    ):
        rows += [row(), row((title, "strong"))]
        for shown, meaning in entries:
            first, *rest = wrapped(render(meaning), width - 21)
            rows.append(row(("  " + padded(shown, 18) + " ", "key"), (first, "text")))
            rows += [row((" " * 21 + line, "text")) for line in rest]
    return [*rows, row(), row((_("Esc closes this page"), "dim"))]


def key_map() -> str:
    """The page as plain text, for `gpuwatch watch --keys`."""
    rows = help_rows(100)[:-2]
    return "\n".join("".join(words for words, _tone in line.spans).rstrip() for line in rows)
