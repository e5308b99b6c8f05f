"""What happened earlier, from the journal: incidents, the newest first.

Examples:
  gpuwatch history
  gpuwatch history --since 24h --label cuda_oom
  gpuwatch history --json | jq -r .id

`gpuwatch serve` and `gpuwatch watch` write the journal; `gpuwatch incident show ID` tells more of one. The same lines read again
have the same id: ID~1 is the one before the newest, ID~2 the one before that.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gpuwatch.adapters.clock import utc_now
from gpuwatch.adapters.journal.reading import Kept, read_incidents
from gpuwatch.core.rules import LABELS
from gpuwatch.errors import UsageError
from gpuwatch.faces.options import add_json
from gpuwatch.faces.report import incident_json, json_line
from gpuwatch.faces.wording import SEVERITY_SIGN, STATE
from gpuwatch.settings import journal_path
from gpuwatch.texts import render, text, visible
from gpuwatch.texts import translate as _

_AGO = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--since", type=moment, metavar="WHEN", help=_("30m, 24h, 7d, or a date: 2026-11-21"))
    parser.add_argument("--label", choices=LABELS, metavar="LABEL", help=_("only incidents with this label"))
    parser.add_argument("--journal", type=Path, metavar="FILE", help=_("another journal than your own"))
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """List them."""
    found = list(read_incidents(own_journal(arguments.journal), since=arguments.since, label=arguments.label))
    for kept in found:
        print(json_line(kept_json(kept)) if arguments.json else visible(line_of(kept)))
    if not found:
        print(render(text("No incident in the journal.")), file=sys.stderr)
    return 0


def own_journal(named: Path | None) -> Path:
    """The journal that is meant. Raises UsageError where there is no place for one."""
    path = journal_path(named)
    if path is None:
        raise UsageError(text("there is no home folder to look for a journal in."), text("Name it: --journal FILE"))
    return path


def kept_json(kept: Kept) -> dict[str, object]:
    """The incident as `diagnose --json` gives it, with what only the journal knows."""
    incident = kept.incident
    return {
        **incident_json(incident),
        "source": incident.source,
        "first_at": incident.first_at.isoformat(),
        "last_at": incident.last_at.isoformat(),
        "failures": kept.failures,
        "newer": kept.newer,
        "job_id": incident.job_id,
        "also_in": list(incident.also_in),
    }


def named(kept: Kept) -> str:
    """The id, and `~1` behind it for the one before the newest that has it: `gpuwatch incident` takes it so."""
    return f"{kept.incident.id}~{kept.newer}" if kept.newer else kept.incident.id


def line_of(kept: Kept) -> str:
    """One line a person reads."""
    incident = kept.incident
    node = f"  {incident.node.type}" if incident.node.type else ""
    times = f"  ×{kept.failures}" if kept.failures > 1 else ""
    at = incident.last_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    state = render(STATE[incident.state])
    sign = SEVERITY_SIGN[incident.severity]
    return f"{named(kept)}  {at}  {sign} {render(incident.title)}{node}{times}  {incident.source} · {state}"


def moment(words: str) -> datetime:
    """Read `24h`, `7d` or a date; without a zone it is local time. Raises what argparse reports."""
    try:
        if found := _AGO.fullmatch(words):
            return utc_now() - int(found[1]) * _UNITS[found[2]]
        return datetime.fromisoformat(words).astimezone(UTC)
    except (ValueError, OverflowError) as error:  # before the year 1
        raise argparse.ArgumentTypeError(
            render(text("{words} is no time; write 30m, 24h, 7d or 2026-11-21", words=words))
        ) from error
