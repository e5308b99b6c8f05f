"""Four looks: dark, light, high contrast, sixteen colours. One palette each, from which Textual's theme and every tone come.

Colours are few. Severity has its own three; one accent leads the eye; the rest is grey. Nothing is told by colour alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from rich.style import Style
from textual.theme import Theme

Tone = Literal[
    "text", "strong", "dim", "faint", "accent", "title", "critical", "error", "warning", "good", "info", "key", "found"
]  # fmt: skip
Back = Literal["", "selected", "quiet", "marked", "current"]


@dataclass(frozen=True)
class Palette:
    """The colours of one look."""

    name: str
    dark: bool
    background: str
    raised: str
    selected: str
    current: str
    found: str
    text: str
    strong: str
    dim: str
    faint: str
    accent: str
    error: str
    warning: str
    good: str
    info: str
    _styles: dict[tuple[Tone, Back], Style] = field(default_factory=dict, compare=False)

    def style(self, tone: Tone, back: Back = "") -> Style:
        """How a tone looks on a background."""
        known = self._styles.get((tone, back))
        if known is None:
            known = self._styles[tone, back] = self._make(tone, back)
        return known

    def _make(self, tone: Tone, back: Back) -> Style:
        colours: dict[Tone, str] = {
            "text": self.text, "strong": self.strong, "dim": self.dim, "faint": self.faint, "accent": self.accent,
            "title": self.accent, "critical": self.error, "error": self.error, "warning": self.warning,
            "good": self.good, "info": self.info, "key": self.accent,
            "found": self.strong,
        }  # fmt: skip
        backs: dict[Back, str] = {
            "": self.background, "selected": self.selected, "quiet": self.raised, "marked": self.raised,
            "current": self.current,
        }  # fmt: skip
        bold = tone in {"strong", "title", "critical", "key", "found"}
        ground = self.found if tone == "found" else backs[back]
        return Style(color=colours[tone], bgcolor=ground, bold=bold or None, underline=tone == "found" or None)

    def theme(self) -> Theme:
        """The same colours for Textual's own parts: scrollbars, toasts, the search field."""
        return Theme(
            name=self.name,
            primary=self.accent,
            secondary=self.accent,
            accent=self.accent,
            warning=self.warning,
            error=self.error,
            success=self.good,
            foreground=self.text,
            background=self.background,
            surface=self.background,
            panel=self.raised,
            dark=self.dark,
            variables={
                "scrollbar": self.faint,
                "scrollbar-hover": self.dim,
                "scrollbar-active": self.accent,
                "scrollbar-background": self.background,
                "scrollbar-background-hover": self.background,
                "scrollbar-background-active": self.background,
                "scrollbar-corner-color": self.background,
            },
        )


DARK = Palette(
    "gpuwatch-dark", True,
    background="#10151b", raised="#18202a", selected="#22303d", current="#263a4d", found="#5a4a12",
    text="#c9d1d9", strong="#f0f4f8", dim="#8592a0", faint="#3d4956",
    accent="#6cc5c0", error="#f0716f", warning="#e3b058", good="#84c27a", info="#7fb2e5",
)  # fmt: skip
LIGHT = Palette(
    "gpuwatch-light", False,
    background="#fbfaf7", raised="#f0eee8", selected="#dde8ea", current="#d5e4ee", found="#f7e3a1",
    text="#333b43", strong="#0d1318", dim="#66707a", faint="#c3c7c9",
    accent="#13706d", error="#b3261e", warning="#8a5300", good="#2d6a30", info="#1d5a96",
)  # fmt: skip
CONTRAST = Palette(
    "gpuwatch-contrast", True,
    background="#000000", raised="#1c1c1c", selected="#00405e", current="#00304f", found="#6b5200",
    text="#ffffff", strong="#ffffff", dim="#d0d0d0", faint="#8c8c8c",
    accent="#5ff3ff", error="#ff8080", warning="#ffdc3d", good="#7dff7d", info="#9fd0ff",
)  # fmt: skip
ANSI = Palette(
    "gpuwatch-16", True,
    background="#000000", raised="#000000", selected="#000080", current="#000080", found="#808000",
    text="#c0c0c0", strong="#ffffff", dim="#c0c0c0", faint="#808080",
    accent="#00ffff", error="#ff0000", warning="#ffff00", good="#00ff00", info="#00ffff",
)  # fmt: skip
"""For a terminal of sixteen colours: every tone is one of them, so that none is rounded to its background."""
PALETTES = {palette.name: palette for palette in (DARK, LIGHT, CONTRAST, ANSI)}
