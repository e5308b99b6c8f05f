"""One page's program: the screen of `gpuwatch watch`, drawn into a pipe. `session.py` starts it.

python -m gpuwatch.faces.web.screen [--read-only] [OPTION...] -- SOURCE...
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from gpuwatch.errors import GpuwatchError
from gpuwatch.faces.cli import tell, without_language
from gpuwatch.faces.commands import watch
from gpuwatch.faces.sourcing import headers_of, named_sources
from gpuwatch.texts import language_of, use

_MODULE = "gpuwatch.faces.web.screen"


def main(argv: Sequence[str]) -> int:
    """Show the screen until the page is closed."""
    try:
        asked, words = without_language(list(argv))
        use(language_of(asked))
        arguments = parser().parse_args(words)
        sources = named_sources(
            arguments.sources, from_start=arguments.from_start, show_history=True, headers=headers_of(arguments)
        )
        return watch.watch_on_screen(sources, arguments, read_only=arguments.read_only)
    except GpuwatchError as error:
        tell(error)
        return error.exit_code


def parser() -> argparse.ArgumentParser:
    """What it takes: the options of watch, which it is. `words_for` gives those that a page has."""
    made = argparse.ArgumentParser(prog="gpuwatch.faces.web.screen", allow_abbrev=False)
    made.add_argument("--read-only", action="store_true")
    watch.add_arguments(made)
    return made


def words_for(arguments: argparse.Namespace, sources: Sequence[str], *, language: str | None) -> list[str]:
    """The command line that shows these sources as `gpuwatch web` was told to."""
    words = [sys.executable, "-P", "-m", _MODULE]
    if language is not None:
        words += ["--lang", language]
    if not arguments.allow_actions:
        words += ["--read-only", "--no-journal"]
    if arguments.from_start:
        words.append("--from-start")
    for option in ("header_file", "token_file", "gpu_memory", "rules"):
        value = getattr(arguments, option)
        if value is not None:
            words.append(f"--{option.replace('_', '-')}={value}")
    return [*words, "--", *sources]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
