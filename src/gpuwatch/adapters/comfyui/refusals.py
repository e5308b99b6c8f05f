"""What a server has against a prompt, in its own words: the reason, and the nodes that it refuses."""

from __future__ import annotations

from typing import Any

from gpuwatch.adapters.comfyui.client import NoAnswerError
from gpuwatch.adapters.comfyui.reading import items, part, words_of
from gpuwatch.texts import Text, plain, text

_MOST_TOLD = 4
_LONGEST = 300


def reason_of(error: NoAnswerError) -> Text:
    """What the server has against a prompt."""
    if error.status == 413:
        return text("it is too large for it.")
    said = error.said if isinstance(error.said, dict) else {}
    told = said.get("error")
    if isinstance(told, dict):
        told = ". ".join(str(told.get(name)) for name in ("message", "details") if told.get(name))
    words = [str(told)[:_LONGEST]] if told else []
    if nodes := node_errors(said.get("node_errors")):
        words.append(nodes)
    return plain("; ".join(words)) if words else text("HTTP {status}, without a reason.", status=error.status)


def node_errors(value: Any) -> str:
    """The server's words on the nodes that it refuses, the first few."""
    if not isinstance(value, dict):
        return ""
    told: list[str] = []
    for id_, entry in value.items():
        name = f"{words_of(part({'e': entry}, 'e').get('class_type')) or '?'} #{str(id_)[:40]}"
        reasons = [
            ": ".join(str(error[key]) for key in ("details", "message") if error.get(key))
            for error in items(entry, "errors")
            if isinstance(error, dict)
        ]
        told.append(f"{name}: {', '.join(reasons[:_MOST_TOLD]) or '?'}"[:_LONGEST])
    more = len(told) - _MOST_TOLD
    return "; ".join(told[:_MOST_TOLD]) + (f"; +{more}" if more > 0 else "")
