"""Tell a webhook or a chat: send a test, or pass on what Prometheus' Alertmanager says.

Examples:
  gpuwatch notify https://hooks.example/gpu --test
  gpuwatch notify @hook.url --test --secret-file hook.secret
  gpuwatch notify --listen 127.0.0.1:9095 --to https://hooks.example/gpu
  gpuwatch notify --listen 127.0.0.1:9095 --to @hook.url --format feishu --token-file relay.token

--test sends one notice and says what came back. --listen takes what Alertmanager's webhook_configs send to /alerts (version 4)
and passes each alert on, in the same form as the failures that `watch`, `serve` and `guard` tell with --notify. An address is
never printed whole: those of chats are secrets. docs/notifications.md has the form and how to check the signature.

Exit codes: 0 delivered, or ended by Ctrl-C; 2 an option cannot be used; 3 nobody answered; 4 the notice was refused.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
import uuid
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from gpuwatch.adapters.clock import utc_now
from gpuwatch.errors import UsageError
from gpuwatch.faces.options import add_json, add_log_format, add_notify_form, address
from gpuwatch.texts import Text, render, text, visible
from gpuwatch.texts import translate as _

if TYPE_CHECKING:
    from gpuwatch.adapters.outbox import Outbox
    from gpuwatch.adapters.webhook import Carrier, Verdict
    from gpuwatch.core.alerts import Relay
    from gpuwatch.core.notices import Notice
    from gpuwatch.faces.narration import Narrate

_LOOK_SECONDS = 1.0
_EXITS = {"delivered": 0, "later": 3, "refused": 4}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument(
        "url", nargs="?", metavar="URL", help=_("where to send a test; @FILE for a file that holds the address")
    )
    parser.add_argument("--test", action="store_true", help=_("send one notice and say what came back"))
    parser.add_argument(
        "--listen", type=address, metavar="HOST:PORT", help=_("take Alertmanager's messages there, on /alerts")
    )
    parser.add_argument(
        "--to", action="append", default=[], metavar="URL", help=_("where to pass them on; @FILE as above; repeatable")
    )
    parser.add_argument(
        "--token-file", metavar="FILE", help=_("the token that Alertmanager must send: Authorization: Bearer")
    )
    add_notify_form(parser, "--")
    add_json(parser)
    add_log_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Send a test, or pass on until told to stop."""
    if arguments.test == (arguments.listen is not None):
        raise UsageError(
            text("say either URL --test or --listen HOST:PORT --to URL."),
            text("`gpuwatch notify --help` has examples."),
        )
    if arguments.test:
        if arguments.url is None or arguments.to or arguments.token_file:
            raise UsageError(text("--test wants one URL, and neither --to nor --token-file."))
        return send_test(arguments)
    if arguments.url is not None or not arguments.to:
        raise UsageError(text("--listen passes on to what --to names."), text("Write --to URL, once or several times."))
    from gpuwatch.faces.narration import narrator  # noqa: PLC0415 - --help must not load it
    from gpuwatch.faces.watching import stop_on_signals  # noqa: PLC0415 - as above

    stop = threading.Event()
    with stop_on_signals(stop):
        return pass_on(arguments, stop, narrator(arguments.log_format))


def send_test(arguments: argparse.Namespace) -> int:
    """Send one notice, once."""
    from gpuwatch.faces.narration import narrator  # noqa: PLC0415
    from gpuwatch.faces.sending import carriers_of  # noqa: PLC0415

    (carrier,) = carriers_of([arguments.url], arguments, partial(narrator(arguments.log_format), level="warning"))
    begun = time.monotonic()
    verdict = carrier.carry(test_notice().sent_from(socket.gethostname()), utc_now())
    tell(carrier, verdict, time.monotonic() - begun, as_json=arguments.json)
    return _EXITS[verdict.outcome]


def tell(carrier: Carrier, verdict: Verdict, seconds: float, *, as_json: bool) -> None:
    """Say what came back."""
    if as_json:
        from gpuwatch.faces.report import json_line  # noqa: PLC0415

        told = {"target": carrier.target.shown, "format": carrier.shape.name, "outcome": verdict.outcome}
        words = render(verdict.words, "en")
        print(json_line({**told, "status": verdict.status, "seconds": round(seconds, 3), "message": words}))
        return
    outcomes = {
        "delivered": text("delivered to {target} as {format} in {took_seconds}: {words}"),
        "later": text("not delivered to {target} as {format} after {took_seconds}: {words}"),
        "refused": text("refused by {target} as {format} after {took_seconds}: {words}"),
    }
    values = {
        "target": carrier.target.shown,
        "format": carrier.shape.name,
        "took_seconds": seconds,
        "words": verdict.words,
    }
    print(visible(render(Text(outcomes[verdict.outcome].template, values))))


def test_notice() -> Notice:
    """What a test says."""
    from gpuwatch.core.notices import Notice  # noqa: PLC0415

    id_ = f"test-{uuid.uuid4()}"
    title = text("A test of gpuwatch: notices arrive here")
    return Notice(id_, "test", utc_now(), "", "info", title, details=(text("Nothing is wrong."),))


def pass_on(arguments: argparse.Namespace, stop: threading.Event, say: Narrate) -> int:
    """Take alerts and hand them to the outboxes until told to stop."""
    from gpuwatch.adapters.alertmanager import AlertReceiver  # noqa: PLC0415
    from gpuwatch.adapters.comfyui.address import read_token  # noqa: PLC0415
    from gpuwatch.adapters.loopback import is_loopback  # noqa: PLC0415
    from gpuwatch.core.alerts import Relay  # noqa: PLC0415
    from gpuwatch.faces.sending import open_outboxes  # noqa: PLC0415

    token = None
    if arguments.token_file is not None:
        token = read_token(arguments.token_file)["Authorization"].removeprefix("Bearer ")
    with ExitStack() as opened:
        outboxes = open_outboxes(arguments.to, arguments, partial(say, event="notices", level="warning"))
        for outbox in outboxes:
            opened.callback(outbox.close)
        desk = AlertDesk(Relay(), outboxes, as_json=arguments.json or arguments.log_format == "json")
        opened.callback(desk.close)
        host, port = arguments.listen
        receiver = AlertReceiver(host, port, desk.take, token)
        opened.callback(receiver.close)
        if token is None and not is_loopback(host):
            open_to_all = text("warning: {host} can be reached from other machines, and no token is wanted.", host=host)
            say(open_to_all, event="unprotected", level="warning")
        say(text("alerts: {address}", address=receiver.address), event="serving", address=receiver.address)
        while not stop.wait(_LOOK_SECONDS):
            desk.look()
    return 0


class AlertDesk:
    """Turns what arrives into notices, on whichever thread it arrives."""

    def __init__(self, relay: Relay, outboxes: list[Outbox], *, as_json: bool) -> None:
        self._relay, self._outboxes = relay, outboxes
        self._as_json = as_json
        self._host = socket.gethostname()
        self._turn = threading.Lock()

    def take(self, document: Any) -> bool:
        """Pass it on; False where a queue is full, so that Alertmanager tries again."""
        with self._turn:
            if any(outbox.full for outbox in self._outboxes):
                return False
            self._hand_on(self._relay.hear(document, utc_now()))
            return True

    def look(self) -> None:
        """Tell of those held back, when that may be."""
        with self._turn:
            self._hand_on(self._relay.limit.due(utc_now()))

    def close(self) -> None:
        """Tell of the last of those held back."""
        with self._turn:
            self._hand_on(self._relay.limit.rest(utc_now()))

    def _hand_on(self, notices: list[Notice]) -> None:
        from gpuwatch.faces.narration import say_line  # noqa: PLC0415
        from gpuwatch.faces.notice_page import headline, notice_json  # noqa: PLC0415
        from gpuwatch.faces.report import json_line  # noqa: PLC0415

        for each in notices:
            notice = each.sent_from(self._host)
            for outbox in self._outboxes:
                outbox.post(notice)
            line = json_line(notice_json(notice)) if self._as_json else headline(notice)
            say_line(line, sys.stdout, notice.severity)
