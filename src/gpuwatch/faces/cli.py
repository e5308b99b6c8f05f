"""The command line: finds the verbs, picks the language, turns a failure into a message and an exit code.

A verb is one module in `commands/`: its docstring is its help, `add_arguments` its options, `run` what it does. Nothing heavy
is imported before a verb runs, so that `--help` is instant.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import pkgutil
import re
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, TextIO

from gpuwatch import __version__
from gpuwatch.errors import GpuwatchError, UsageError
from gpuwatch.faces import commands
from gpuwatch.faces.ending import ending_signals
from gpuwatch.faces.help_words import in_language
from gpuwatch.loading import loading
from gpuwatch.texts import LANGUAGES, language_of, plain, render, text, translate, use, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_ORDER = ("watch", "diagnose", "serve", "run", "rules", "demo")
_INTERRUPTED = 130
_NO_MORE_TO_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""A write that fails so, and to no file that we named, was one to the output."""
_QUOTES = '"""'
_HELP = {"-h", "--help"}
_TOP_OPTIONS = _HELP | {"--version"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    hold_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="replace"
            )  # a terminal that cannot show a character shows another, and nothing fails
    end_in_order()
    try:
        asked, arguments = without_language(arguments)
        use(language_of(asked))
        code = dispatched(arguments)
    except GpuwatchError as error:
        tell(error, arguments)
        code = error.exit_code
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BrokenPipeError:
        give_up(sys.stdout)  # whoever read us has gone, as with `| head`
        code = 128 + signal.SIGPIPE
    except OSError as error:
        if error.filename is not None or error.errno not in _NO_MORE_TO_WRITE:
            raise
        give_up(sys.stdout)
        told = GpuwatchError(text("the output cannot be written: {error}.", error=error.strerror or str(error)))
        tell(told, arguments)
        code = told.exit_code
    try:
        sys.stderr.flush()
    except OSError:
        give_up(sys.stderr)  # what happened is in the exit code, too
    return code


def dispatched(arguments: list[str]) -> int:
    """Run the verb, and have all that it printed written; also where argparse printed help and ends."""
    try:
        code = dispatch(arguments)
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return code


def end_in_order() -> None:
    """Have SIGTERM and a hang-up end a verb as Ctrl-C does: what it started is ended, what it made for itself is taken away."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is threading.main_thread():
        for number in ending_signals():
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, end)


def hold_streams() -> None:
    """Put nothing in the place of a standard stream that is closed: else the next file that is opened would be it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - for good


def give_up(stream: TextIO) -> None:
    """Say no more there, and keep the interpreter from failing when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def dispatch(arguments: list[str]) -> int:
    """Run the verb that the arguments name; without one, watch."""
    names = verb_names()
    first = next((word for word in arguments if not word.startswith("-")), None)
    if first not in names and not _TOP_OPTIONS & set(arguments):
        if first is not None and first.isalpha() and not os.path.exists(first):  # noqa: PTH110 - Path's raises
            from difflib import get_close_matches  # noqa: PLC0415 - few people mistype

            near = get_close_matches(first, names, n=1)
            raise UsageError(
                text("there is neither a verb nor a file called {word}.", word=first),
                text("Is `gpuwatch {verb}` meant?", verb=near[0])
                if near
                else text("`gpuwatch --help` lists the verbs."),
            )
        first, arguments = "watch", ["watch", *arguments]
    if first is None or first not in names:  # all are listed; each brings its own modules, and none of them is needed
        listed = names if first is not None or _HELP & set(arguments) else ()
        build_parser(dict.fromkeys(listed)).parse_args(arguments)
        return 0
    with loading():
        verbs = {first: load_verb(first)}
        parsed = build_parser(verbs).parse_args(arguments)
    if parsed.lang is not None:  # written shorter, as argparse allows: `without_language` left it
        use(parsed.lang)
    return int(verbs[parsed.verb].run(parsed))


def verb_names() -> list[str]:
    """The verbs, those that people meet first in front."""
    names = [name for _finder, name, _package in pkgutil.iter_modules(commands.__path__)]
    return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


def load_verb(name: str) -> ModuleType:
    """A verb's module."""
    return importlib.import_module(f"{commands.__name__}.{name}")


def words_of(name: str) -> str:
    """What a verb's module says of itself, read without running it."""
    from ast import literal_eval  # noqa: PLC0415 - for the list of verbs alone
    from inspect import cleandoc  # noqa: PLC0415

    source = Path(commands.__path__[0], f"{name}.py").read_text("utf-8")
    end = source.index(_QUOTES, source.index(_QUOTES) + len(_QUOTES))
    return cleandoc(literal_eval(source[: end + len(_QUOTES)]))


def build_parser(verbs: Mapping[str, ModuleType | None]) -> argparse.ArgumentParser:
    """The parser with a subparser a verb; one whose module is not given is only listed."""
    vars(argparse)["_"] = translate  # argparse's own words, in the language that was picked
    parser = _Parser(
        prog="gpuwatch",
        description=_(
            "Keeps watch beside ComfyUI: sees a GPU failure, says what happened in numbers, and how to fix it."
        ),
        epilog=_("Without a verb gpuwatch watches: `python main.py 2>&1 | gpuwatch`."),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"gpuwatch {__version__}", help=_("show the version and exit")
    )
    subparsers = parser.add_subparsers(
        dest="verb", metavar=_("VERB"), required=True, parser_class=_Parser, prog=parser.prog
    )
    for name, verb in verbs.items():
        summary, _blank, rest = ((verb.__doc__ or "") if verb is not None else words_of(name)).strip().partition("\n")
        child = subparsers.add_parser(
            name,
            help=_(summary),
            description=_(summary),
            epilog=in_language(rest.strip()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if verb is not None:
            verb.add_arguments(child)
        add_common(child)
    return parser


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options that every verb takes."""
    parser.add_argument("--lang", choices=LANGUAGES, help=_("language of the output (default: from LANG)"))


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are reported like every other failure."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """A word such as -1GiB is a value, whatever a number looks like to argparse: each option says what it takes."""
        super().__init__(*arguments, **options)
        self._negative_number_matcher = re.compile(r"-\.?\d")

    def error(self, message: str) -> None:  # type: ignore[override]  # argparse says NoReturn; raising is no return
        raise UsageError(
            plain(f"{verb}: {message}" if (verb := self.prog.partition(" ")[2]) else message),
            text("`{program} --help` shows the options.", program=self.prog),
        )

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        """Print help or the version; unlike argparse's own, say so where that cannot be written."""
        (file or sys.stderr).write(message)


def without_language(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The value of --lang, wherever it stands, and the other arguments.

    It is taken out before any parser exists, because the parsers themselves speak a language.
    """
    asked: str | None = None
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return asked, [*rest, word, *words]
        if word == "--lang":
            asked = next(words, "")
        elif word.startswith("--lang="):
            asked = word.removeprefix("--lang=")
        else:
            rest.append(word)
    if asked is not None and asked not in LANGUAGES:
        raise UsageError(text("--lang takes {known}, not `{asked}`.", known=", ".join(LANGUAGES), asked=asked))
    return asked, rest


def tell(error: GpuwatchError, arguments: Sequence[str] = ()) -> None:
    """Print a failure: what happened, then what to do; a JSON line where every other line is one."""
    from gpuwatch.faces.narration import say_error  # noqa: PLC0415 - few runs fail

    try:
        if say_error(error, arguments):
            return
        for number, line in enumerate(render(error.message).splitlines()):
            print(f"gpuwatch: {visible(line)}" if number == 0 else visible(line), file=sys.stderr)
        if error.hint is not None:
            print(visible(render(error.hint)), file=sys.stderr)
    except OSError:
        pass  # nobody reads it, or nothing more can be written there


if __name__ == "__main__":
    sys.exit(main())
