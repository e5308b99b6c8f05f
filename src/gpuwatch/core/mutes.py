"""What a person does not want to hear of: which incidents are theirs to mute, and until when.

A muted incident is found, kept and shown as muted. `adapters/mute_file.py` reads the entries; nothing here touches a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gpuwatch.core.rules import Label
from gpuwatch.texts import Text, text

if TYPE_CHECKING:
    from gpuwatch.core.incidents import Incident

PATTERN_TIMEOUT_SECONDS = 0.25
_STRIKES = 3
_LONGEST_LIKE = 200
"""How much of a line makes the pattern for lines like it."""


@dataclass(frozen=True, slots=True)
class Mute:
    """One entry: a rule, a label or a pattern over the line that told the incident, and how far it goes."""

    rule: str | None = None
    label: Label | None = None
    pattern: bytes | None = None
    until: datetime | None = None
    source: str | None = None
    """Where it is set: only incidents of this source."""
    note: str | None = None
    where: str = ""
    """File and line of the entry."""

    @property
    def subject(self) -> Text:
        """What is muted, in words."""
        if self.rule is not None:
            return text("rule {rule}", rule=self.rule)
        if self.label is not None:
            return text("label {label}", label=self.label)
        return text("lines like {pattern}", pattern=(self.pattern or b"").decode("utf-8", "replace"))

    def same_subject(self, other: Mute) -> bool:
        """Whether both mute the same, for however long."""
        return (self.rule, self.label, self.pattern, self.source) == (
            other.rule,
            other.label,
            other.pattern,
            other.source,
        )

    def over(self, at: datetime) -> bool:
        """Whether its time has passed."""
        return self.until is not None and self.until <= at


@dataclass(slots=True)
class Mutes:
    """The entries in the order they stand in the file. A pattern that takes too long three times is set aside."""

    entries: tuple[Mute, ...] = ()
    _compiled: dict[Mute, Any] = field(init=False, repr=False)
    _strikes: dict[Mute, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        patterns = {mute: mute.pattern for mute in self.entries if mute.pattern is not None}
        self._compiled = {mute: _compiled(pattern) for mute, pattern in patterns.items()}

    @property
    def set_aside(self) -> tuple[Mute, ...]:
        """The entries whose patterns took too long."""
        return tuple(mute for mute, strikes in self._strikes.items() if strikes >= _STRIKES)

    @property
    def overran(self) -> tuple[Mute, ...]:
        """The entries whose patterns took too long at least once: what they should have muted may not have been."""
        return tuple(self._strikes)

    def mute_of(self, incident: Incident, at: datetime) -> Mute | None:
        """The first entry that speaks of the incident and is not over."""
        return next((mute for mute in self.entries if not mute.over(at) and self._speaks_of(mute, incident)), None)

    def ended(self, since: datetime, until: datetime) -> bool:
        """Whether the time of an entry passed between these times."""
        return any(mute.until is not None and since < mute.until <= until for mute in self.entries)

    def marked(self, incidents: Iterable[Incident], at: datetime) -> dict[str, Mute | None]:
        """For each incident by its id: its entry, or None."""
        return {incident.id: self.mute_of(incident, at) for incident in incidents}

    def _speaks_of(self, mute: Mute, incident: Incident) -> bool:
        if mute.source is not None and mute.source != incident.source:
            return False
        if mute.rule is not None:
            return mute.rule == incident.rule.id
        if mute.label is not None:
            return mute.label == incident.label
        return self._found(mute, incident.text)

    def _found(self, mute: Mute, words: str) -> bool:
        if self._strikes.get(mute, 0) >= _STRIKES:
            return False
        try:
            found = self._compiled[mute].search(words.encode(), timeout=PATTERN_TIMEOUT_SECONDS, concurrent=True)
        except TimeoutError:
            self._strikes[mute] = self._strikes.get(mute, 0) + 1
            return False
        return found is not None


def _compiled(pattern: bytes) -> Any:
    import regex  # noqa: PLC0415 - who mutes nothing need not wait for it

    return regex.compile(pattern)


def line_pattern(line: str) -> str:
    """A pattern for lines like this one: the same words, other numbers."""
    import regex  # noqa: PLC0415

    begin = line[:_LONGEST_LIKE]
    pieces = regex.split(r"(0x[0-9a-fA-F]+|[0-9]+(?:\.[0-9]+)?)", begin)
    made = "".join(
        regex.escape(piece, special_only=True) if place % 2 == 0 else _like(piece) for place, piece in enumerate(pieces)
    )
    return f"^{made}" + ("" if len(line) > len(begin) else "$")


def _like(number: str) -> str:
    return "0x[0-9a-fA-F]+" if number.startswith("0x") else r"[0-9]+(?:\.[0-9]+)?"
