"""Why a failed job is not queued again, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuwatch.core.loop.broken import only_a_restart_helps
from gpuwatch.errors import GpuwatchError
from gpuwatch.texts import Text, render, text

if TYPE_CHECKING:  # what acts on a server is loaded once it is to act
    from gpuwatch.adapters.comfyui.mending import Refusal

IMPOSSIBLE = text(
    "No server is watched, so nothing can be queued; `gpuwatch watch http://127.0.0.1:8188` makes it possible."
)
ANOTHER_PLAN = text("What fits this one is another plan; a shows it.")


def refused_by(found: Refusal, *, held: bool = False) -> Text:
    """Why nothing is queued, and what helps where that is a restart. `held`: the job ran to its end since."""
    why = found.give_up.why
    if held and not found.of_memory:
        return text("There is nothing left to mend.")
    if not found.of_memory and only_a_restart_helps(found.incident):
        return text("Only a restart of ComfyUI helps, so nothing is queued. {why}", why=why)
    if not found.of_memory:
        return text("{why} Do what helps, then queue the job again in ComfyUI.", why=ended(why))
    return why


def ended(words: Text) -> Text:
    """A sentence with its full stop, before another one."""
    return words if render(words).rstrip().endswith((".", "。", "!", "?")) else text("{words}.", words=words)


def told_by(error: Exception) -> Text:
    """What is said of an error."""
    return (
        error.message if isinstance(error, GpuwatchError) else text("stopped by an error: {error}", error=repr(error))
    )


def together_words(count: int, left: int) -> Text:
    """What became of jobs that were to be queued with one word."""
    if not left:
        return text("Jobs queued with this plan: {count}.", count=count)
    return text(
        "Jobs queued with this plan: {count}; in need of another: {left} (a shows it).",
        count=count - left, left=left,
    )  # fmt: skip
