"""The line on which a person says what they do not want to hear of: this rule, this label, or lines like this one.

It stands above the keys while it waits for a number; nothing else stops meanwhile. What is chosen is written by the app.
"""

from __future__ import annotations

from collections.abc import Sequence

from gpuwatch.core.incidents import Incident
from gpuwatch.core.mutes import Mute, line_pattern
from gpuwatch.faces.tui.paint import Span, row, width_of
from gpuwatch.faces.tui.pane import OneLine
from gpuwatch.texts import render, text, visible
from gpuwatch.texts import translate as _


class MuteBar(OneLine):
    """The line; it speaks of the incident that was chosen when it was opened."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.incident: Incident | None = None
        self.display = False

    def offer(self, incident: Incident | None) -> None:
        """Open it for an incident, or close it."""
        self.incident = incident
        self.display = incident is not None
        self.draw()

    def choices(self) -> tuple[Mute, ...]:
        """What the numbers stand for; for a muted incident the entry that mutes it."""
        if self.incident is None:
            return ()
        if self.incident.mute is not None:
            return (self.incident.mute,)
        mutes = [Mute(rule=self.incident.rule.id), Mute(label=self.incident.label)]
        if self.incident.text.strip():
            mutes.append(Mute(pattern=line_pattern(self.incident.text).encode()))
        return tuple(mutes)

    def draw(self) -> None:
        """Draw it in the language in use."""
        incident = self.incident
        if incident is None:
            return
        if incident.mute is not None:
            because = f" ({incident.mute.note})" if incident.mute.note else ""
            subject = render(incident.mute.subject) + because
            words = [render(text("Muted: {subject}.", subject=visible(subject))), _("speak of it again")]
        else:
            words = [
                _("Mute:"),
                render(text("rule {rule}", rule=incident.rule.id)),
                render(text("label {label}", label=incident.label)),
                _("such lines"),
            ]
        spans = self._spans(words)
        if width_of(spans) > self.size.width and incident.mute is None:  # every choice is in view, if not every name
            short = (render(text("rule {rule}", rule="")).strip(), render(text("label {label}", label="")).strip())
            spans = self._spans([words[0], *short, *words[3:]])
        self.show(row(*spans, back="quiet"))

    def _spans(self, words: Sequence[str]) -> list[Span]:
        spans: list[Span] = [(f" {words[0]} ", "strong")]
        for number, (word, _mute) in enumerate(zip(words[1:], self.choices(), strict=False), start=1):
            spans += [(f" {number} ", "key"), (word + " ", "text")]
        return [*spans, (" Esc ", "key"), (_("leave it"), "dim")]
