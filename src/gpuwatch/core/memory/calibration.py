"""What no trace can tell: what libraries and the driver take on a card. Constants with their source, measured or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpuwatch.core.memory.band import Band
from gpuwatch.texts import Text

ANY = "*"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Constants for an architecture, an allocator and a torch version; `*` stands for whatever is not told apart."""

    arch: str
    """As `sm86`."""
    allocator: str
    torch: str
    """A version's beginning, as `2.9`."""
    measured: bool
    """From a run on such a card; else from documentation or reasoning, and a prediction says so."""
    workspace_bytes: Band
    """What cuBLAS takes through the allocator and keeps."""
    context_bytes: Band
    """What the process holds on the card outside PyTorch: the CUDA context and loaded kernels."""
    reserved_ratio: Band
    """Reserved over what the simulated allocator reserves: workspaces of convolutions come and go in it."""
    budget_ratio: Band
    """The smallest budget that works over the simulated one."""
    source: Text

    def matches(self, arch: str | None, allocator: str, torch: str | None) -> int | None:
        """How many of its words are said of the card, None where one is of another."""
        score = 0
        for own, asked in ((self.arch, arch), (self.allocator, allocator)):
            if own not in (ANY, asked):
                return None
            score += own != ANY
        if self.torch != ANY:
            if torch is not None and not torch.startswith(self.torch):
                return None
            score += torch is not None
        return score


def pick(
    calibrations: Sequence[Calibration], arch: str | None, allocator: str, torch: str | None = None
) -> Calibration:
    """The calibration that says most about a card; a measured one before another that says as much.

    Raises LookupError where none matches, which one of `*` prevents.
    """
    scored = [
        ((score, calibration.measured), calibration)
        for calibration in calibrations
        if (score := calibration.matches(arch, allocator, torch)) is not None
    ]
    if not scored:
        raise LookupError(f"no calibration for {arch}, {allocator}, {torch}")
    return max(scored, key=lambda item: item[0])[1]
