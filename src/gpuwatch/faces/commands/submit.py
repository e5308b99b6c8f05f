"""Photos in bulk through a ComfyUI workflow, on one server or several.

Examples:
  gpuwatch submit --server http://127.0.0.1:8188 --workflow colorize.json photos/ --out coloured/
  gpuwatch submit --server http://10.0.0.4:8188 --server http://10.0.0.5:8188 --workflow colorize.json photos/ --out coloured/
  gpuwatch submit --server http://127.0.0.1:8188 --workflow colorize.json photos/ --out coloured/ --resume --retry-degrade

The workflow is what Export (API) gives. Each photo takes the place of the picture in its LoadImage node; with several of them
--input says which. A server holds --depth photos at a time. Results go to --out as the folders stand in the input, each
whole or not at all; a manifest there lets --resume go on after Ctrl-C, and a photo that a restart of the server lost is queued
again. With --retry-degrade a photo that runs out of GPU memory is queued again as it fits. A server that answers nothing of use
for --give-up-after is given up, its photos go to the others, and --resume goes on with what is left.

Exit codes: 0 all photos are done, 2 an input cannot be used, 3 no server answers, 4 photos failed, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
import threading
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuwatch.errors import GpuwatchError, JobError, UsageError
from gpuwatch.faces.options import add_gpu_memory, add_json, add_rules, duration, whole
from gpuwatch.faces.servers import add_access, add_fix_journal, add_limits, mender_of, servers_named
from gpuwatch.texts import Text, render, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from gpuwatch.adapters.comfyui.batch import Outcome
    from gpuwatch.adapters.comfyui.bulk_folder import OutputFolder
    from gpuwatch.adapters.comfyui.mending import Mender
    from gpuwatch.adapters.comfyui.submitting import Lane
    from gpuwatch.core.loop.bulk import Photo

MOST_DEPTH = 64
_LOOK_UP_SECONDS = 0.2
_GOODBYE_SECONDS = 15.0
_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("photos", nargs="+", metavar="PHOTO|DIR", help=_("photos, or folders of them"))
    parser.add_argument(
        "--server",
        action="append",
        required=True,
        metavar="URL",
        help=_("a ComfyUI server; may be given several times"),
    )
    parser.add_argument("--workflow", required=True, metavar="FILE", help=_("the workflow, as Export (API) gives it"))
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help=_("where the results go"))
    parser.add_argument("--input", metavar="NODE_ID", help=_("the node that takes the photo"))
    parser.add_argument(
        "--depth",
        type=whole(1, MOST_DEPTH),
        default=4,
        metavar="N",
        help=_("how many photos a server holds at a time (default: 4)"),
    )
    parser.add_argument(
        "--retry-degrade", action="store_true", help=_("queue again, as it fits, what runs out of GPU memory")
    )
    parser.add_argument(
        "--give-up-after",
        type=duration,
        default=600.0,
        metavar="TIME",
        help=_("how long a server that does not answer is waited for: 30s, 10m, 2h (default: 10m)"),
    )
    parser.add_argument("--resume", action="store_true", help=_("go on with what an earlier run left in --out"))
    add_limits(parser)
    add_access(parser)
    add_fix_journal(parser)
    add_gpu_memory(parser)
    add_json(parser)
    add_rules(parser)


def run(arguments: argparse.Namespace) -> int:
    """Submit until all are over, or told to stop."""
    from gpuwatch.faces.watching import stop_on_signals  # noqa: PLC0415 - --help must not load the sources

    stop = threading.Event()
    return submit(arguments, stop, stop_on_signals(stop))


def submit(
    arguments: argparse.Namespace, stop: threading.Event, hearing: AbstractContextManager[None] | None = None
) -> int:
    """Find the photos, greet the servers, and give them out. What is read first, a signal ends at once; then `hearing` does."""
    from gpuwatch.adapters.comfyui.bulk_folder import OutputFolder, find_photos  # noqa: PLC0415
    from gpuwatch.faces.journaling import open_ledger, unkept  # noqa: PLC0415
    from gpuwatch.faces.narration import in_words  # noqa: PLC0415

    template = template_of(arguments)
    servers = servers_named(arguments.server, arguments)
    photos = find_photos(arguments.photos, arguments.out)
    with hearing or nullcontext(), ExitStack() as opened:
        ledger = open_ledger(arguments, in_words)
        keep = ledger.add if ledger is not None else unkept
        menders = greeted([mender_of(server, arguments, keep) for server in servers], opened)
        output = opened.enter_context(OutputFolder(arguments.out, resume=arguments.resume))
        return carry_out(arguments, photos, template, menders=menders, output=output, stop=stop)


def template_of(arguments: argparse.Namespace) -> tuple[Any, str]:
    """The workflow's prompt, and the node that takes the photo."""
    from gpuwatch.adapters.workflow_file import read_workflow_file  # noqa: PLC0415
    from gpuwatch.core.loop.bulk import photo_node  # noqa: PLC0415

    workflow = read_workflow_file(arguments.workflow).workflow
    node = photo_node(workflow, arguments.input)
    if isinstance(node, Text):
        raise UsageError(text("{path} cannot take photos: {why}", path=arguments.workflow, why=node))
    prompt = workflow.value
    for step in node.place[:-1]:
        prompt = prompt[step]
    return {id_: each for id_, each in prompt.items() if isinstance(each, dict) and "class_type" in each}, node.id


def greeted(menders: list[Mender], opened: ExitStack) -> list[Mender]:
    """Those that answer; what is wrong with the others is said. Raises where none does."""
    there: list[Mender] = []
    last: GpuwatchError | None = None
    for mender in menders:
        opened.callback(mender.hands.close)
        try:
            mender.hands.greet()
            there.append(mender)
        except GpuwatchError as error:
            if len(menders) > 1:
                say(error.message)
            last = error
    if last is not None and not there:
        raise last
    return there


def carry_out(
    arguments: argparse.Namespace,
    photos: list[Photo],
    template: tuple[Any, str],
    *,
    menders: list[Mender],
    output: OutputFolder,
    stop: threading.Event,
) -> int:
    """Give the photos out, and show how far it is."""
    from gpuwatch.adapters.comfyui.batch import Batch  # noqa: PLC0415
    from gpuwatch.adapters.comfyui.submitting import Lane  # noqa: PLC0415
    from gpuwatch.core.loop.bulk import output_names  # noqa: PLC0415

    wanted = [photo for photo in photos if not output.is_done(photo)]
    page = Page(arguments, len(photos), len(photos) - len(wanted))
    batch = Batch(
        wanted,
        template,
        output,
        page.over,
        names=output_names(photos),
        depth=arguments.depth,
        degrade=arguments.retry_degrade,
        say=page.say,
    )
    alone, patience = len(menders) == 1, arguments.give_up_after
    lanes = {mender.hands.name: Lane(mender, batch, alone=alone, give_up_seconds=patience) for mender in menders}
    for photo in wanted:
        entry = output.entry_of(photo)
        if entry is not None and entry.state == "queued" and entry.server in lanes:
            lanes[entry.server].adopt(photo, entry.job)
    threads = [threading.Thread(target=lane.run, name=name, daemon=True) for name, lane in lanes.items()]
    with page:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) and not stop.is_set() and not batch.stop.is_set():
            page.wait(threads)
        batch.stop.set()
        for thread in threads:
            thread.join(_GOODBYE_SECONDS)
    page.finish(batch.left)
    if batch.error is not None:
        raise batch.error
    if stop.is_set() and batch.left:
        held = sum(len(lane.flights) for lane in lanes.values())
        say(
            text(
                "Stopped; {count} photos are left, {held} of them with the servers. --resume goes on.",
                count=batch.left,
                held=held,
            )
        )
        return _INTERRUPTED
    return ended(lanes, batch.left, page.failed)


def ended(lanes: dict[str, Lane], left: int, failed: int) -> int:
    """The exit code; raises where every server gave up."""
    for lane in lanes.values():
        if lane.ended is not None:
            if left:
                raise lane.ended
            say(lane.ended.message)
    return JobError.exit_code if failed else 0


def say(words: Text) -> None:
    """On stderr."""
    print(visible(render(words)), file=sys.stderr, flush=True)


class Page:
    """What a person, or a program, sees of it."""

    def __init__(self, arguments: argparse.Namespace, photos: int, skipped: int) -> None:
        self.photos, self.skipped, self.done, self.failed = photos, skipped, 0, 0
        self._json, self._out = arguments.json, arguments.out
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Page:
        if sys.stderr.isatty() and not self._json:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn  # noqa: PLC0415

            from gpuwatch.faces.report import console_for  # noqa: PLC0415

            self._bar = Progress(
                "{task.description}",
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=console_for(sys.stderr),
            )
            self._task = self._bar.add_task(render(text("photos")), total=self.photos, completed=self.skipped)
            self._bar.start()
        if self.skipped:
            self.say(text("{count} photos are done already.", count=self.skipped))
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def wait(self, threads: list[threading.Thread]) -> None:
        """A moment, or until a server has nothing left to do."""
        next(thread for thread in threads if thread.is_alive() or thread is threads[-1]).join(_LOOK_UP_SECONDS)

    def say(self, words: Text) -> None:
        """One line beside the bar."""
        if self._bar is not None:
            from rich.text import Text as Line  # noqa: PLC0415

            self._bar.console.print(Line(visible(render(words)), "dim"))
        else:
            say(words)

    def over(self, outcome: Outcome) -> None:
        """One photo is over. Called by the servers' threads, one at a time."""
        from gpuwatch.faces.report import json_line  # noqa: PLC0415

        if outcome.failed is None:
            self.done += 1
        else:
            self.failed += 1
        if self._json:
            value = {
                "input": outcome.photo.name,
                "outputs": list(outcome.outputs),
                "server": outcome.server,
                "tries": outcome.tries,
                "changes": [dict(each) for each in outcome.changes],
                "seconds": outcome.seconds,
                "failed": render(outcome.failed, "en") if outcome.failed is not None else None,
            }
            print(json_line(value), flush=True)
        elif outcome.failed is not None:
            self.say(Text("{photo}: {why}", {"photo": outcome.photo.name, "why": outcome.failed}, "{photo}：{why}"))
        elif self._bar is None:
            print(visible(f"{outcome.photo.name} -> {', '.join(outcome.outputs)}"), flush=True)
        if self._bar is not None:
            self._bar.update(self._task, advance=1)

    def finish(self, left: int) -> None:
        """The sum."""
        from gpuwatch.faces.report import json_line  # noqa: PLC0415

        if self._json:
            value = {
                "photos": self.photos,
                "done": self.done,
                "skipped": self.skipped,
                "failed": self.failed,
                "left": left,
            }
            print(json_line(value), flush=True)
        else:
            print(
                visible(
                    render(
                        text(
                            "{done} done, {failed} failed, {left} left; in {folder}",
                            done=self.done + self.skipped,
                            failed=self.failed,
                            left=left,
                            folder=str(self._out),
                        )
                    )
                ),
                flush=True,
            )
