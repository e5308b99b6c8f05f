"""How `watch`, `replay` and `demo` come to their screen: it is drawn at once, and what it shows is opened behind it.

The engine, the rules, the journal and what acts on servers take longer to bring than the screen itself. A person sees where
things will stand meanwhile, and the keys work. What cannot be opened ends the screen and is told on the terminal below it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from gpuwatch.faces.narration import in_words
from gpuwatch.faces.tui.app import WatchApp, Watched
from gpuwatch.faces.tui.remembered import screen_file

if TYPE_CHECKING:
    from pathlib import Path

    from gpuwatch.adapters.sources import Source
    from gpuwatch.core.incidents import Incident
    from gpuwatch.core.observations import FixTried
    from gpuwatch.faces.notifying import Desk
    from gpuwatch.texts import Text


def show(sources: Sequence[Source], arguments: argparse.Namespace, *, read_only: bool) -> int:
    """Show the screen over the sources until the person leaves; the exit code."""
    return draw_first(
        lambda app, opened: open_behind(app, opened, sources, arguments),
        remembers=screen_file(),
        language_asked=any(word.startswith("--lang") for word in sys.argv),
        read_only=read_only,
    )


def draw_first(opens: Callable[[WatchApp, ExitStack], Watched], **looks: Any) -> int:
    """Draw the screen, have opened behind it what it shows, and let the person leave; the exit code.

    `opens` runs on a thread; what it enters into the stack is closed after the screen. `looks`: the app's own arguments.
    """
    with ExitStack() as opened:
        app = WatchApp(opens=lambda: opens(app, opened), **looks)
        app.run()
        if app.trouble is not None:
            raise app.trouble
        return app.return_code or 0


def open_behind(app: WatchApp, opened: ExitStack, sources: Sequence[Source], arguments: argparse.Namespace) -> Watched:
    """Bring and open what the screen shows; on a thread beside it."""
    from gpuwatch.faces.notifying import Ringer  # noqa: PLC0415 - all of these come behind the first screen
    from gpuwatch.faces.opening import open_watch  # noqa: PLC0415
    from gpuwatch.faces.servers import hands_of, mender_of  # noqa: PLC0415
    from gpuwatch.faces.tui.mend import servers_of  # noqa: PLC0415
    from gpuwatch.faces.watching import machine_sources  # noqa: PLC0415

    watch = opened.enter_context(open_watch([*sources, *machine_sources()], arguments, app.say, app.show_ahead))
    if watch.books is not None:
        watch.books.say = unsaid  # what the journal has to say is on the screen, and the terminal is Textual's
    watch.desk.ring = Ringer(app.ring, bell=arguments.bell, desktop=arguments.desktop)
    opened.callback(speak_below, watch.desk)
    menders = {name: partial(mender_of, server, arguments) for name, server in servers_of(sources).items()}
    recall = partial(held_before, watch.books.ledger.path) if watch.books is not None else None
    hands = {name: partial(hands_of, server) for name, server in servers_of(sources).items()}
    return Watched(watch.pipeline, watch.metrics_address, menders, recall, hands)


def held_before(journal: Path, incident: Incident) -> FixTried | None:
    """The fix that held for a failure's job, as the journal has it."""
    from gpuwatch.adapters.journal.fixes import held_fix  # noqa: PLC0415 - as above

    return held_fix(journal, incident.job_id) if incident.job_id is not None else None


def speak_below(desk: Desk) -> None:
    """What is still to be said goes to the terminal that the screen has left."""
    desk.say, desk.ring = in_words, None


def unsaid(_words: Text) -> None:
    """Say nothing."""
