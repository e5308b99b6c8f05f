"""Change a workflow so that it fits the card: show the difference, ask, write it or queue it again.

Examples:
  gpuwatch fix workflow.json --gpu-memory 6GiB                       only shows
  gpuwatch fix workflow.json --log comfyui.log --out smaller.json
  gpuwatch fix workflow.json --error history.json --in-place         keeps a backup
  gpuwatch fix photo.png --gpu-memory 8GiB --out workflow.json       the workflow in a saved picture
  gpuwatch fix --undo workflow.json                                  puts the newest backup back
  gpuwatch fix --server http://127.0.0.1:8188                        the server's newest failed job
  gpuwatch fix --server http://127.0.0.1:8188 --job ID --yes --wait  queues it again and sees whether it held
  gpuwatch fix --server http://127.0.0.1:8188 --as-it-was            the same prompt, after the disk has room again

Takes workflows as the editor saves them and as Export (API) gives them, subgraphs too. Only the values that are shown
change; the rest of the file stays as it is, byte for byte. With --log or --error the nodes that failed are made smaller;
without, the DDColor nodes that the card has no room for. Where no profile tells what a node needs, the jobs of that kind that
ran on this machine do (`gpuwatch predict learned`), else the share of the failed request that was free, and whether it is
enough then is uncertain.

With --server and no file the failed prompt is taken from the server, changed, and queued again in front, with all that came
with it; where something else held the memory, that is freed first. Where the cause lies outside the workflow (a full disk, a
model that is missing), it says what to do first, and --as-it-was queues the very same prompt again after that.

Exit codes: 0 changed or shown, 1 nothing to change, 2 an input cannot be used, 3 the server does not answer, 4 the server
refused the prompt, or it failed again.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import replace

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.journal.runs import read_learned
from gpuwatch.adapters.workflow_file import (
    WorkflowFile,
    parsed,
    read_workflow_file,
    undo,
    write_in_place,
    write_workflow,
)
from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.workflow.changes import Card, Plan
from gpuwatch.core.workflow.places import edited, edited_text
from gpuwatch.core.workflow.plan import plan_fix
from gpuwatch.errors import JobError as FixError
from gpuwatch.errors import UsageError
from gpuwatch.faces.fix_page import plan_json, print_plan, summary
from gpuwatch.faces.fix_told import gather
from gpuwatch.faces.options import add_gpu_memory, add_json, add_rules, size
from gpuwatch.faces.report import console_for, json_line
from gpuwatch.faces.servers import add_access, add_fix_journal
from gpuwatch.settings import journal_path
from gpuwatch.texts import Text, plain, render, text, visible
from gpuwatch.texts import translate as _


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("workflow", nargs="?", metavar="WORKFLOW", help=_("a workflow file, or a picture with one"))
    parser.add_argument("--log", metavar="LOG", help=_("the log with the failure; - is standard input"))
    parser.add_argument("--error", metavar="FILE", help=_("the failed job as JSON, from /history or /api/jobs"))
    add_gpu_memory(parser)
    parser.add_argument("--used", type=used_size, default=0, metavar="SIZE", help=_("what others hold on the card"))
    parser.add_argument(
        "--server", metavar="URL", help=_("ask this ComfyUI for its nodes; without a workflow: its failed job")
    )
    parser.add_argument("--job", metavar="ID", help=_("this failed job of the server, not the newest"))
    parser.add_argument(
        "--as-it-was",
        action="store_true",
        help=_("queue it again unchanged, once a cause outside the workflow is mended"),
    )
    parser.add_argument("--wait", action="store_true", help=_("wait for the end of what is queued"))
    add_access(parser)
    add_fix_journal(parser)
    parser.add_argument("--object-info", metavar="FILE", help=_("the same, from a saved /object_info"))
    parser.add_argument("--keep-size", action="store_true", help=_("rather a smaller network than a smaller size"))
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", metavar="FILE", help=_("write the changed workflow here; - is standard output"))
    where.add_argument("--in-place", action="store_true", help=_("write it over the workflow, keeping a backup"))
    where.add_argument("--undo", metavar="FILE", help=_("put the newest backup of this workflow back"))
    parser.add_argument("--dry-run", action="store_true", help=_("only show what would change"))
    parser.add_argument("--yes", action="store_true", help=_("do not ask"))
    add_json(parser)
    add_rules(parser)


def used_size(words: str) -> int:
    """A size that may be zero."""
    return 0 if words.strip() in {"0", "0B", "0GiB", "0MiB"} else size(words)


def run(arguments: argparse.Namespace) -> int:
    """Plan, show, ask, write."""
    if arguments.undo is not None:
        return put_back(arguments)
    if arguments.workflow is None and arguments.server is not None:
        return mend_server(arguments)
    if arguments.job is not None or arguments.wait or arguments.as_it_was:
        raise UsageError(
            text("--job, --wait and --as-it-was speak of a server's job."),
            plain("gpuwatch fix --server URL --job ID --wait"),
        )
    if arguments.workflow is None:
        raise UsageError(text("which workflow?"), plain("gpuwatch fix WORKFLOW.json --gpu-memory 8GiB"))
    file = read_workflow_file(arguments.workflow)
    check_places(arguments, file)
    told = gather(arguments)
    card = Card(told.card_bytes(arguments), arguments.used)
    if card.used_bytes >= card.total_bytes:
        raise UsageError(
            text(
                "--used {used_bytes} is all of the card's {total_bytes}.",
                used_bytes=card.used_bytes,
                total_bytes=card.total_bytes,
            )
        )
    plan = plan_fix(
        file.workflow,
        told.troubles,
        card,
        load_workloads(),
        told.knowledge,
        keep_size=arguments.keep_size,
        learned=read_learned(journal_path(arguments.journal)),
    )
    plan = replace(plan, notes=(*plan.notes, *told.notes))
    return carry_out(arguments, file, plan, changed_text(file, plan))


def mend_server(arguments: argparse.Namespace) -> int:
    """The failed job of a server, in place of a file."""
    from gpuwatch.faces.mending import mend  # noqa: PLC0415 - only for servers

    given = {
        "--out": arguments.out,
        "--in-place": arguments.in_place,
        "--log": arguments.log,
        "--error": arguments.error,
        "--object-info": arguments.object_info,
        "--keep-size": arguments.keep_size,
        "--used": arguments.used,
    }
    other = next((option for option, value in given.items() if value), None)
    if other is not None:
        raise UsageError(
            text("{option} goes with a workflow file.", option=other),
            text("Without one, the server itself tells which job failed and how."),
        )
    return mend(arguments)


def check_places(arguments: argparse.Namespace, file: WorkflowFile) -> None:
    """Refuse what cannot be written before anything is reckoned."""
    if arguments.in_place and file.from_image:
        raise UsageError(
            text("{path} is a picture; its workflow is not written back into it.", path=file.path),
            text("Use --out workflow.json."),
        )
    if arguments.out not in (None, "-") and os.path.realpath(arguments.out) == os.path.realpath(file.path):
        raise UsageError(
            text("--out {path} is the workflow itself.", path=arguments.out),
            text("Use --in-place, which keeps a backup."),
        )
    if arguments.out == "-" and arguments.json:
        raise UsageError(text("--out - and --json both want standard output."))


def changed_text(file: WorkflowFile, plan: Plan) -> str:
    """The workflow's text with the changes in it, checked: read again it must be the plan's and nothing else."""
    words = edited_text(file.text, plan.edits)
    if parsed(file.path, words) != edited(file.workflow.value, plan.edits):
        raise FixError(text("{path}: the change could not be made without changing more.", path=file.path))
    return words


def carry_out(arguments: argparse.Namespace, file: WorkflowFile, plan: Plan, words: str) -> int:
    """Show the plan, ask where a person is there, write."""
    stream = sys.stderr if arguments.out == "-" else sys.stdout
    console = console_for(stream)
    value = {"workflow": file.path, "form": file.workflow.form, **plan_json(plan), "written": None, "backup": None}
    wanted = arguments.out or (file.path if arguments.in_place else None)
    if not arguments.json:
        print_plan(console, plan)
    if plan.changes and wanted is not None and not arguments.dry_run:
        if not arguments.yes and not agreed(wanted):
            print(render(text("Nothing was written.")), file=sys.stderr)
            return 0
        if arguments.out == "-":
            sys.stdout.write(words)
        elif arguments.in_place:
            value["backup"] = str(write_in_place(file.path, words, utc_now()))
            value["written"] = file.path
        else:
            write_workflow(arguments.out, words)
            value["written"] = arguments.out
        if not arguments.json:
            console.print(visible(summary(plan.changes, wanted)))
            if value["backup"]:
                told = text("Before: {backup}; `gpuwatch fix --undo {path}` puts it back.",
                            backup=str(value["backup"]), path=shlex.quote(file.path))  # fmt: skip
                console.print(visible(render(told)), style="dim", soft_wrap=True)
    elif not arguments.json:
        console.print(render(_ending(plan, dry_run=arguments.dry_run)), style="dim")
    if arguments.json:
        print(json_line(value), flush=True)
    return 0 if plan.changes else 1


def _ending(plan: Plan, *, dry_run: bool) -> Text:
    if plan.changes:
        return (
            text("Only shown, nothing was written.")
            if dry_run
            else text("Nothing was written: say where with --out FILE or --in-place.")
        )
    return (
        text("Nothing to change: it fits.") if plan.fits == "yes" and not plan.unfixable else text("Nothing to change.")
    )


def agreed(path: str) -> bool:
    """Ask, where a person can answer; yes where there is none."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    print(render(text("Write {path}? [y/N] ", path=visible(path))), end="", file=sys.stderr, flush=True)
    try:
        return input().strip().lower() in {"y", "yes", "j", "ja", "是"}
    except EOFError:
        return False


def put_back(arguments: argparse.Namespace) -> int:
    """`--undo`."""
    backup, undone = undo(arguments.undo, utc_now())
    if arguments.json:
        print(json_line({"restored": arguments.undo, "backup": str(backup), "undone": str(undone)}))
    else:
        print(visible(render(text("{path} is as it was in {backup}.", path=arguments.undo, backup=backup.name))))
        print(visible(render(text("As it was until now: {undone}", undone=undone.name))))
    return 0
