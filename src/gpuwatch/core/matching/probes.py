"""What is looked for in a log in the place of each pattern: literals, or a plainer pattern that matches wherever it does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gpuwatch.core.matching.fragments import fragments_of
from gpuwatch.core.matching.healthy import COMMON, RARE, rarity
from gpuwatch.core.matching.literals import folds_case, required_literals
from gpuwatch.core.matching.superset import superset_of


@dataclass(frozen=True, slots=True)
class Probe:
    """What to look for in a pattern's place; with neither, the pattern has to be tried everywhere."""

    literals: frozenset[bytes]
    """One of them stands in every match. Empty where none could be derived."""
    expression: bytes | None = None
    """A plain pattern that matches wherever the pattern does."""
    folds: bool = True
    """Whether the literals' letters may stand there in the other case."""

    @property
    def by_literals(self) -> bool:
        """Whether the literals are the better thing to look for."""
        return bool(self.literals) and (self.expression is None or self.rarity == RARE)

    @property
    def rarity(self) -> int:
        """Of the commonest literal."""
        return min(map(rarity, self.literals), default=COMMON)


def probe_of(pattern: bytes) -> Probe:
    """The probe that stands for a pattern."""
    return Probe(required_literals(pattern), superset_of(pattern), folds_case(pattern))


def coarsened(probes: Iterable[Probe]) -> list[Probe]:
    """Few probes, one of which is found on every line that one of these is found on."""
    literals: set[bytes] = set()
    kept: list[Probe] = []
    for probe in probes:
        if probe.by_literals or probe.rarity > COMMON:
            literals |= probe.literals
        else:
            kept.append(probe)  # expressions cost the scanner much of its speed: none for the sake of a rare line
    return [Probe(fragments_of(literals)), *kept] if literals else kept
