"""`fix --server` without a file: the failed job of a server, shown, asked about, queued again, and waited for."""

from __future__ import annotations

import argparse
import shlex
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

from gpuwatch.adapters.comfyui.acting import Queued
from gpuwatch.adapters.comfyui.ended import EndedJob
from gpuwatch.adapters.comfyui.mending import Mender, Proposal, Refusal
from gpuwatch.adapters.journal.fixes import held_fix
from gpuwatch.core.diagnosis import Fix
from gpuwatch.core.loop.next_try import GiveUp, Lineage
from gpuwatch.core.observations import FixTried
from gpuwatch.core.workflow.changes import Plan
from gpuwatch.errors import JobError
from gpuwatch.faces.fix_page import plan_json, print_plan
from gpuwatch.faces.journaling import open_ledger, unkept
from gpuwatch.faces.narration import in_words
from gpuwatch.faces.report import console_for, json_line
from gpuwatch.faces.servers import mender_of, server_named
from gpuwatch.faces.wording import held_words
from gpuwatch.texts import Text, render, text, visible

if TYPE_CHECKING:
    from rich.console import Console

_FAILED = JobError.exit_code
_IN_WORKFLOW = text("Its cause is not known to lie outside the workflow: as it was it would fail again.")


def mend(arguments: argparse.Namespace) -> int:
    """Show what would be queued, ask, queue, and where it is asked for see what becomes of it."""
    ledger = open_ledger(arguments, in_words)
    keep = ledger.add if ledger is not None else unkept
    mender = mender_of(server_named(arguments.server, arguments), arguments, keep)
    with closing(mender.hands):
        mender.hands.greet()
        job = mender.hands.failed_job(arguments.job)
        held = held_fix(ledger.path, job.id) if ledger is not None else None
        return mend_job(arguments, mender, job, held if held is not None and held.server == mender.hands.name else None)


def mend_job(arguments: argparse.Namespace, mender: Mender, job: EndedJob, held: FixTried | None) -> int:
    """One failed job. `held`: the fix that it ran to its end with already; it is not queued so again."""
    console = console_for(sys.stdout)
    found = mender.propose(job, Lineage(held=held.action) if held is not None else None)
    again = mender.again(found) if isinstance(found, Refusal) and held is None else None
    if arguments.as_it_was:
        found = again or Refusal(job, found.incident, GiveUp(_IN_WORKFLOW), of_memory=False)
    value = job_json(mender, job, found) | {
        "held": fix_json(held) if held is not None else None,
        "first": step_json(again.first) if again is not None else None,
    }
    if not arguments.json:
        head(console, mender, job)
        if held is not None:
            told = held_words(held, held.at.astimezone().strftime("%Y-%m-%d %H:%M"))
            console.print(signed("✓", "green", told), soft_wrap=True)
        print_found(console, mender, found, again)
    if isinstance(found, Refusal) or not may_act(arguments):
        if arguments.json:
            print(json_line(value), flush=True)
        return 1 if isinstance(found, Refusal) else 0
    queued = mender.carry_through(found, threading.Event().wait)
    mender.applied(found, queued)
    value |= {"queued": queued.id, "dropped": render(queued.dropped) if queued.dropped else None}
    if not arguments.json:
        console.print(render(text("Queued in front as {id}.", id=queued.id)), soft_wrap=True)
        if queued.dropped is not None:
            console.print(render(text("Some of its outputs are invalid and left out: {why}", why=queued.dropped)))
    code = 0
    if arguments.wait:
        outcome, words = wait_for(mender, found, queued)
        value["outcome"] = outcome
        code = 0 if outcome == "held" else _FAILED
        if not arguments.json:
            console.print(render(words), style="green" if code == 0 else "red", soft_wrap=True)
    if arguments.json:
        print(json_line(value), flush=True)
    return code


def print_found(console: Console, mender: Mender, found: Proposal | Refusal, again: Proposal | None) -> None:
    """What would be queued, or why nothing is; `again`: how it could be queued once something else is done."""
    if isinstance(found, Refusal):
        console.print(signed("✗", "red", found.give_up.why), soft_wrap=True)
        if again is not None:
            print_first(console, again)
            command = shlex.join(
                ["gpuwatch", "fix", "--server", mender.hands.name, "--job", found.job.id, "--as-it-was"]
            )
            console.print(visible(render(text("Then: {command}", command=command))), soft_wrap=True)
        return
    if found.retry.repeats:
        print_first(console, found)
        console.print(render(text("Nothing in the job changes: until that is done it fails again.")), soft_wrap=True)
        return
    print_plan(console, shown_plan(found))
    if found.retry.frees:
        console.print(render(text("Memory is freed, and the same prompt is queued again.")), style="bold")


def step_json(first: Fix | None) -> dict[str, Any] | None:
    """What has to be done before, as `fix --server --json` gives it."""
    return {"action": first.action, "title": render(first.title), "command": first.command} if first else None


def print_first(console: Console, proposal: Proposal) -> None:
    """What has to be done before a job is queued again as it was."""
    if proposal.first is None:
        return
    console.print(visible(render(text("First: {step}", step=proposal.first.title))), style="yellow", soft_wrap=True)
    if proposal.first.command:
        console.print(visible(f"  $ {proposal.first.command}"), style="cyan", soft_wrap=True)


def fix_json(tried: FixTried) -> dict[str, Any]:
    """A fix that held, as `fix --server --json` gives it."""
    return {"at": tried.at.isoformat(), "action": tried.action, "values": dict(tried.after), "job": tried.job_id}


def wait_for(mender: Mender, proposal: Proposal, queued: Queued) -> tuple[str, Text]:
    """See what becomes of a prompt: held, failed, interrupted or lost."""
    print(render(text("waiting for its end; Ctrl-C leaves it queued")), file=sys.stderr, flush=True)
    ended, _tried = mender.see_through(proposal, queued, threading.Event().wait)
    return ending_of(ended, queued)


def ending_of(ended: EndedJob | None, queued: Queued) -> tuple[str, Text]:
    """What became of it, in a word and in a sentence."""
    if ended is None:
        return "lost", text("Job {id} is neither in the queue nor in the history: it was lost.", id=queued.id)
    if ended.ended.outcome == "success":
        return "held", text("It held: job {id} ran to its end.", id=queued.id)
    if ended.ended.outcome == "interrupted":
        return "interrupted", text("Job {id} was interrupted.", id=queued.id)
    words = ended.error.message.partition("\n")[0][:300] if ended.error else "?"
    return "failed", text("It failed again: {words}", words=words)


def may_act(arguments: argparse.Namespace) -> bool:
    """Whether a person wants it queued."""
    if arguments.dry_run:
        told = text("Only shown, nothing was queued.")
    elif arguments.yes:
        return True
    elif not (sys.stdin.isatty() and sys.stderr.isatty()):
        told = text("Nothing was queued: nobody is here to agree. Say --yes for that.")
    else:
        print(render(text("Queue this in front? [y/N] ")), end="", file=sys.stderr, flush=True)
        try:
            if input().strip().lower() in {"y", "yes", "j", "ja", "是"}:
                return True
        except EOFError:
            pass
        told = text("Nothing was queued.")
    print(visible(render(told)), file=sys.stderr)
    return False


def head(console: Console, mender: Mender, job: EndedJob) -> None:
    """Which job it is, and how it failed."""
    error = job.error
    node = f"{error.node_type or '?'} #{error.node_id or '?'}" if error else "?"
    words = error.message.partition("\n")[0][:300] if error else "?"
    told = text("{server}: job {id} failed in {node}", server=mender.hands.name, id=job.id, node=node)
    console.print(render(told), style="bold", soft_wrap=True)
    console.print(words, style="dim", soft_wrap=True)
    console.print()


def signed(sign: str, style: str, words: Text) -> Any:
    """A sentence with its sign before it."""
    from rich.text import Text as Line  # noqa: PLC0415 - only where a person reads

    return Line.assemble((f"{sign} ", style), visible(render(words)))


def shown_plan(proposal: Proposal) -> Plan:
    """The plan with what else is to be said of it; without what it said when it changed nothing."""
    plan = proposal.retry.plan
    return Plan(plan.changes, plan.outlooks, () if proposal.retry.frees else plan.unfixable, proposal.notes)


def job_json(mender: Mender, job: EndedJob, found: Proposal | Refusal) -> dict[str, Any]:
    """What `fix --server --json` gives."""
    plan = shown_plan(found) if isinstance(found, Proposal) else found.give_up.plan
    error = job.error
    value: dict[str, Any] = {
        "server": mender.hands.name,
        "job": job.id,
        "node": {"id": error.node_id, "type": error.node_type} if error else None,
        "label": found.incident.label if found.incident else None,
        "action": found.retry.action if isinstance(found, Proposal) else None,
        **plan_json(plan),
        "queued": None,
        "outcome": None,
    }
    if isinstance(found, Refusal):
        value["unfixable"] = list(dict.fromkeys([render(found.give_up.why), *value["unfixable"]]))
    return value
