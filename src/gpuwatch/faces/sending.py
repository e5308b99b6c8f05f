"""What takes notices to the addresses that a verb's options name. Apart from the desk, for it brings HTTP and TLS."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from gpuwatch.adapters.loopback import is_loopback
from gpuwatch.adapters.outbox import Outbox
from gpuwatch.adapters.outbox_file import OutboxFile
from gpuwatch.adapters.webhook import Carrier, read_secret, target_of
from gpuwatch.errors import UsageError
from gpuwatch.faces.notice_shapes import shape_for
from gpuwatch.texts import Text, text


def open_outboxes(
    addresses: Sequence[str], arguments: argparse.Namespace, warn: Callable[[Text], None]
) -> list[Outbox]:
    """A queue for each address, kept on disk unless nothing is to be kept. Raises UsageError before any is open."""
    keeps = not getattr(arguments, "no_journal", False)
    return [
        Outbox(carrier, warn, kept=OutboxFile.own(carrier.target, carrier.shape.name) if keeps else None)
        for carrier in carriers_of(addresses, arguments, warn)
    ]


def carriers_of(addresses: Sequence[str], arguments: argparse.Namespace, warn: Callable[[Text], None]) -> list[Carrier]:
    """What takes notices to each address, in the form and with the secret that the arguments name.

    Raises UsageError for what is no address or secret.
    """
    secret, warning = read_secret(arguments.notify_secret_file)
    if not addresses:
        if arguments.notify_secret_file is not None:
            raise UsageError(
                text("a secret is given, and no address to send notices to."), text("Name one with --notify URL.")
            )
        return []
    targets = [target_of(address) for address in addresses]
    if warning is not None:
        warn(warning)
    for target in targets:
        if target.scheme == "http" and not is_loopback(target.host):
            warn(text("{target}: notices travel unencrypted there.", target=target.shown))
    return [Carrier(target, shape_for(arguments.notify_format, target), secret) for target in targets]
