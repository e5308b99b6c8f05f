"""The sources that a command line means: those that are named, what is piped in, else what this machine has.

Nothing of the engine is brought along, so that what is wrong with a name is said before a screen is drawn.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence

from gpuwatch.adapters.sources import Places, Source, open_source
from gpuwatch.adapters.sources.stdin import StdinSource
from gpuwatch.errors import UsageError
from gpuwatch.faces.narration import Narrate, in_words
from gpuwatch.texts import render, text


def headers_of(arguments: argparse.Namespace) -> dict[str, str]:
    """What is sent to servers to say who we are."""
    if not (arguments.header_file or arguments.token_file):
        return {}
    from gpuwatch.adapters.comfyui.address import read_headers, read_token  # noqa: PLC0415 - for a server alone

    headers = read_headers(arguments.header_file) if arguments.header_file else {}
    return headers | (read_token(arguments.token_file) if arguments.token_file else {})


def named_sources(
    specs: Sequence[str],
    *,
    from_start: bool,
    show_history: bool,
    pipe: int | None = None,
    headers: Mapping[str, str] | None = None,
    places: Places | None = None,
    say: Narrate = in_words,
) -> list[Source]:
    """The sources that were named, each under a name of its own, and the machine's own. Raises UsageError for none."""
    piped = pipe is not None or not sys.stdin.isatty()
    if not specs:
        specs = ["-"] if piped else [found_source(say)]
    if len(set(specs)) < len(specs):
        from gpuwatch.adapters.comfyui.address import without_credentials  # noqa: PLC0415 - to complain alone

        twice = next(spec for spec in specs if specs.count(spec) > 1)
        raise UsageError(text("{spec} is named twice.", spec=without_credentials(twice)))
    opened: list[Source] = [
        StdinSource(pipe)
        if spec == "-"
        else open_source(spec, from_start=from_start, show_history=show_history, headers=headers, places=places)
        for spec in specs
    ]
    names = [source.name for source in opened]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(
            text("two sources are called {name}.", name=twice),
            text("Watch them one by one, or link one under another name."),
        )
    return opened


def found_source(say: Narrate = in_words) -> str:
    """The one source that this machine has. Raises UsageError where there is none, or where there is a choice."""
    from gpuwatch.adapters.discovery import discovered  # noqa: PLC0415 - psutil and HTTP, where nothing is named

    found = discovered()
    if not found:
        raise UsageError(
            text(
                "nothing to watch: no source was named, nothing is piped in, and no ComfyUI was found on this machine."
            ),
            text("Try `gpuwatch watch path/to/comfyui.log`, or `python main.py 2>&1 | gpuwatch`."),
        )
    if len(found) > 1:
        commands = "\n".join(f"  gpuwatch watch {shlex.quote(each.spec)}    {render(each.what)}" for each in found)
        raise UsageError(
            text("there is more than one thing to watch; name one or several:\n{commands}", commands=commands)
        )
    told = text("found {what}: watching {spec}", what=found[0].what, spec=found[0].spec)
    say(told, event="found")
    return found[0].spec
