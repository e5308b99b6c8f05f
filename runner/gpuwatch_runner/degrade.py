"""Where memory runs out: which pass to try next, from what changes nothing to what changes the colours.

First the exact rewrites, then smaller batches, then smaller sizes. What worked is kept for the images that follow, and now
and then what was asked for is tried again: whoever took the memory may have gone.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from gpuwatch.texts import text
from gpuwatch_runner.ddcolor import REWRITES, Rewrite
from gpuwatch_runner.events import narrate
from gpuwatch_runner.sizes import STRIDE_PX

RETRY_AFTER = 64
"""Images after which what was asked for is tried again."""

Given = TypeVar("Given")


@dataclass(frozen=True, slots=True)
class Step:
    """One way to run a pass."""

    rewrite: Rewrite
    size_px: int
    batch: int

    def as_json(self) -> dict[str, Any]:
        """What of it an image's colours or memory depend on."""
        return {"rewrite": self.rewrite, "size": self.size_px, "batch": self.batch}


class Ladder:
    """The steps from what was asked for down to the smallest pass, and where a run stands on them."""

    def __init__(self, asked: Step, *, allowed: bool) -> None:
        self.steps = _steps_down(asked) if allowed else [asked]
        self._place = 0
        self._worked = 0
        """The highest step that is known to work, once one below the first was needed."""
        self._images = 0

    @property
    def step(self) -> Step:
        """How the next pass is to run."""
        return self.steps[self._place]

    @property
    def degraded(self) -> bool:
        """Whether that is less than was asked for."""
        return self._place > 0

    def attempt(self, run: Callable[[Step], Given]) -> Given:
        """Run a pass, a step further down each time that memory runs out; raises that error where there is none left."""
        while True:
            refused = None
            try:
                given = run(self.step)
            except Exception as error:
                if not ran_out(error) or self._place + 1 >= len(self.steps):
                    raise
                # The traceback holds the tensors that filled the memory: it has to go before the next try.
                refused = (str(error).strip() or type(error).__name__).splitlines()[0]
            else:
                self._worked = self._place
                return given
            before = self.step
            self._place = max(self._place + 1, self._worked)
            free_memory()
            narrate(
                text(
                    "Memory ran out with rewrite {rewrite}, {size_px}, batch {batch}; "
                    "going on with rewrite {next_rewrite}, {next_px}, batch {next_batch}: {reason}",
                    rewrite=before.rewrite,
                    size_px=before.size_px,
                    batch=before.batch,
                    next_rewrite=self.step.rewrite,
                    next_px=self.step.size_px,
                    next_batch=self.step.batch,
                    reason=refused,
                )
            )

    def count(self, images: int) -> None:
        """Tell that images have gone through; from time to time this goes back to the first step."""
        self._images = self._images + images if self.degraded else 0
        if self._images >= RETRY_AFTER:
            self._place = self._images = 0


def _steps_down(asked: Step) -> list[Step]:
    lighter = REWRITES[REWRITES.index(asked.rewrite) :]
    steps = [Step(rewrite, asked.size_px, asked.batch) for rewrite in lighter]
    while steps[-1].batch > 1:
        steps.append(Step(steps[-1].rewrite, asked.size_px, steps[-1].batch // 2))
    last = steps[-1]
    return [*steps, *(Step(last.rewrite, size_px, 1) for size_px in range(asked.size_px - STRIDE_PX, 0, -STRIDE_PX))]


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory, the device's or the host's, could not be had."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("out of memory", "DefaultCPUAllocator", "not enough memory")
    )


def free_memory() -> None:
    """Give back what a failed pass leaves in torch's allocator."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
