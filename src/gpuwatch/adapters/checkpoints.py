"""The published checkpoints on this machine: where they are kept, where they come from, what must hold before one is kept.

No hash of them is published, so besides the hash that a server tells, the file's own content is the check: it must be whole,
be the network that its name says, and hold nothing but tensors.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gpuwatch.adapters.checkpoint_file import inspect_file
from gpuwatch.adapters.downloads import Fetched, download
from gpuwatch.adapters.range_request import Progress, check_address
from gpuwatch.core.checkpoint import PUBLISHED, Inspection, Published, Source
from gpuwatch.errors import GpuwatchError, JobError, UnreachableError, UsageError
from gpuwatch.settings import DATA_VARIABLE, data_folder
from gpuwatch.texts import Text, text

_SUFFIXES = (".pth", ".pt", ".safetensors", ".bin")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a checkpoint comes from."""

    url: str
    plain_http: bool
    """The person named an address without encryption, so it may be one."""


def checkpoint_folder(environment: Mapping[str, str] | None = None) -> Path:
    """The folder of downloaded checkpoints, whether it is there or not. Raises UsageError where there is no home."""
    folder = data_folder(environment)
    if folder is None:
        raise UsageError(
            text("there is no home folder to keep checkpoints in."),
            text("Set {variable} to a folder, or name a place with --out.", variable=DATA_VARIABLE),
        )
    return folder / "checkpoints"


def published(name: str) -> Published:
    """The checkpoint of that name; its file name counts as well. Raises UsageError for another name."""
    bare = name.removeprefix("ddcolor_").removesuffix(".pth")
    if (found := PUBLISHED.get(bare)) is not None:
        return found
    raise UsageError(
        text("there is no published checkpoint {name}.", name=name),
        text("It is one of {known}.", known=", ".join(PUBLISHED)),
    )


def find_checkpoint(words: str, environment: Mapping[str, str] | None = None) -> str:
    """What a person names with --checkpoint, as a path: a published one's name means its file in the folder.

    A file of that name in the current folder is meant before it. Raises UsageError for a name whose file is not there.
    """
    if words not in PUBLISHED or Path(words).exists():
        return words
    path = checkpoint_folder(environment) / PUBLISHED[words].file
    if not path.is_file():
        raise UsageError(
            text("the checkpoint {name} is not there: {path} does not exist.", name=words, path=path),
            text("`gpuwatch checkpoint get {name}` downloads it.", name=words),
        )
    return str(path)


def address_of(
    wanted: Published, source: Source, mirror: str | None = None, environment: Mapping[str, str] | None = None
) -> Address:
    """Where to ask: a mirror in place of the site, or for the file itself; else the site, Hugging Face's as HF_ENDPOINT says.

    Raises UsageError where the source does not have it, or the mirror is no address.
    """
    environment = os.environ if environment is None else environment
    endpoint = mirror or (environment.get("HF_ENDPOINT") if source == "huggingface" else None) or None
    if endpoint is not None:
        check_address(endpoint, plain_http=True)
    if mirror is not None and urlsplit(mirror).path.lower().endswith(_SUFFIXES):
        return Address(mirror, mirror.startswith("http:"))
    url = wanted.url(source, endpoint)
    if url is None:
        have = ", ".join(name for name, each in PUBLISHED.items() if source in each.paths)
        raise UsageError(
            text("{source} does not have {name}; it has {have}.", source=source, name=wanted.name, have=have),
            text("Use --from huggingface, in China with HF_ENDPOINT=https://hf-mirror.com."),
        )
    return Address(url, url.startswith("http:"))


def fetch(
    wanted: Published,
    to: Path,
    address: Address,
    *,
    sha256: str | None = None,
    on_progress: Progress = lambda _have, _total: None,
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free,
    wait: Callable[[float], None] | None = None,
) -> Fetched:
    """Download a checkpoint to `to`; it is there only if it is the one that was wanted.

    Raises UnreachableError, UsageError or JobError with what to do about it.
    """
    more = {} if wait is None else {"wait": wait}
    try:
        return download(
            address.url,
            to,
            sha256=sha256 or wanted.sha256,
            plain_http=address.plain_http,
            judge=lambda path: complaint(inspect_file(path, hashed=False), wanted),
            on_progress=on_progress,
            free_bytes=free_bytes,
            **more,
        )
    except UnreachableError as error:
        raise UnreachableError(error.message, by_hand(address.url, to)) from error


def by_hand(url: str, to: Path) -> Text:
    """How to come by the file where the network refuses."""
    return text(
        "Another way is --from modelscope, or a mirror: HF_ENDPOINT=https://hf-mirror.com. "
        "By hand: download {url} in a browser, save it as {path}, then `gpuwatch checkpoint inspect {word}` checks it.",
        url=url,
        path=to,
        word=shlex.quote(str(to)),
    )


def complaint(found: Inspection, wanted: Published) -> GpuwatchError | None:
    """Why a downloaded file is not the one that was wanted; None where it is."""
    if found.damaged is not None:
        return JobError(
            text("What came is damaged: {reason}; it was deleted", reason=found.damaged), text("Run it again.")
        )
    if found.names:
        names = ", ".join(str(name) for name in found.names[:3])
        return JobError(
            text(
                "What came carries code besides weights ({names}); nothing of it was run, and it was deleted",
                names=names,
            ),
            text("Use another source."),
        )
    if found.network.variant != wanted.variant or not found.network.complete:
        return JobError(
            text(
                "What came is not DDColor's {variant} network: {format}, {network}; it was deleted",
                variant=wanted.variant,
                format=found.format,
                network=" ".join(filter(None, (found.network.name, found.network.variant))) or "?",
            ),
            text("Use another source."),
        )
    return None
