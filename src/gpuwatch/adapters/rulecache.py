"""The rules made ready, kept on disk: reading and compiling a hundred rules takes a second, and a log should not wait for it.

Their examples are left out, here as in what is read back: no log needs them.

What is kept is found by a hash of everything that it depends on: the rule files, this program's own code, the libraries, the
processor. It lies in a folder that only its user can write to, since what is read back is trusted as compiled Python is; where
that cannot be had, or anything about it is odd, the rules are made anew and nothing is said.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import pickle
import stat
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gpuwatch
from gpuwatch.core.matching.matcher import Dump, Matcher
from gpuwatch.core.rules import RuleSet, rule_set
from gpuwatch.settings import cache_folder, own_rules_folder
from gpuwatch.shipped import shipped_folder

_MOST_KEPT = 8
_LARGEST_BYTES = 64 << 20
_DIGEST_BYTES = 32
_NAME = "?" * 32 + ".rules"
_WRITTEN_SECONDS = 600
"""What is still being written is younger."""
_VALUES = {
    ("gpuwatch.core.rules", "Correlate"),
    ("gpuwatch.core.rules", "Rule"),
    ("gpuwatch.core.rules", "RuleFix"),
    ("gpuwatch.core.rules", "RuleSet"),
    ("gpuwatch.texts", "Text"),
    ("gpuwatch.adapters.rulecache", "read_only"),
    ("builtins", "frozenset"),
}


def load_matcher(folder: Path | None = None, *, lives_long: bool = False) -> Matcher:
    """The rules in force, without their examples, made ready to match. Raises UsageError that names every mistake.

    `lives_long`: this process does, and is not to hold for good what making them takes: another one makes them.
    """
    place = _place(folder)
    if place is not None and (kept := _read(place)) is not None:
        return kept
    if place is not None and lives_long:
        from gpuwatch.adapters.rule_making import fill_cache  # noqa: PLC0415 - only without a cache

        fill_cache(folder)
        if (kept := _read(place)) is not None:
            return kept
    from gpuwatch.adapters.rulebook import load_rules  # noqa: PLC0415 - it brings YAML, which the cache saves

    rules = rule_set(rule.bare for rule in load_rules(folder).every)
    matcher = Matcher(rules)
    if place is not None:
        _write(place, rules, matcher.dump())
    return matcher


def _place(folder: Path | None) -> Path | None:
    """The file for these very rules on this very machine; None where nothing can be kept."""
    kept = cache_folder()
    if kept is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    try:
        for part in _parts(folder):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
    except OSError:
        return None
    return kept / f"{digest.hexdigest()}.rules"


def _parts(folder: Path | None) -> Iterator[bytes]:
    """Everything that the rules made ready depend on."""
    yield f"{gpuwatch.__version__} {sys.version} {_library()}".encode()
    yield _processor()
    code = Path(gpuwatch.__file__).parent
    for package in (code, code / "core", code / "core" / "matching", code / "core" / "planners", code / "adapters"):
        yield from _modules_in(package)
    if (found := find_spec("regex")) is not None and found.origin is not None:  # not imported: that takes a while
        yield from _modules_in(Path(found.origin).parent)
    for layer in (shipped_folder("rules"), own_rules_folder(), folder):
        if layer is not None:
            for path in sorted(layer.iterdir()):
                if path.suffix in (".yaml", ".yml"):
                    yield os.fsencode(path.name)
                    yield _content(path)
        yield b""


def _content(path: Path) -> bytes:
    """A rule file's bytes. Raises OSError for what is no file of rules: its reader says what is wrong with it."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_BYTES:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return path.read_bytes()


def _modules_in(package: Path) -> list[bytes]:
    """A package's modules, each by its name, size and time."""
    with os.scandir(package) as entries:
        modules = [(entry.path, entry.stat()) for entry in entries if entry.name.endswith((".py", ".so", ".pyd"))]
    return sorted(os.fsencode(f"{path} {status.st_size} {status.st_mtime_ns}") for path, status in modules)


@lru_cache(maxsize=1)
def _library() -> str:
    """The library that looks for all patterns at once, and its version."""
    try:
        import hyperscan  # noqa: PLC0415 - not everywhere
    except ImportError:
        return "none"
    return str(vars(hyperscan).get("__version__"))


def _processor() -> bytes:
    """What tells this processor's abilities from another's, as far as the system says."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open("rb") as file:
        lines = file.read(8192).split(b"\n")
        return b"\n".join(line for line in lines if line.startswith((b"flags", b"Features", b"model name")))[:8192]
    return os.uname().machine.encode() if hasattr(os, "uname") else sys.platform.encode()


def _is_private(status: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):
        return True  # on Windows the folder inherits its user's rights alone
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _read(place: Path) -> Matcher | None:
    try:
        with place.open("rb") as file:
            if not _is_private(os.fstat(file.fileno())) or not _is_private(place.parent.stat()):
                return None
            kept = file.read(_LARGEST_BYTES + 1)
        digest, body = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
        if hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != digest:
            return None
        rules, dumped = _Reader(io.BytesIO(body)).load()
        return Matcher(rules, dumped)
    except (OSError, ValueError, TypeError, AttributeError, EOFError, pickle.UnpicklingError, ImportError):
        return None


def _write(place: Path, rules: RuleSet, dumped: Dump) -> None:
    from gpuwatch.adapters.whole_file import beside  # noqa: PLC0415 - it brings tempfile, which the cache saves

    written = io.BytesIO()
    _Writer(written, protocol=5).dump((rules, dumped))
    body = written.getvalue()
    with contextlib.suppress(OSError):
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(place.parent.stat()):
            return
        with beside(place, hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() + body) as temporary:
            temporary.replace(place)
        _clear(place)


def _clear(newest: Path) -> None:
    """Take away what was kept longest, and what a run left that was killed while it wrote. Raises OSError."""
    for old in sorted(newest.parent.glob(_NAME), key=lambda path: path.stat().st_mtime)[:-_MOST_KEPT]:
        old.unlink(missing_ok=True)
    for left in newest.parent.glob(f".{_NAME}.*.new"):
        if newest.stat().st_mtime - left.stat().st_mtime > _WRITTEN_SECONDS:
            left.unlink(missing_ok=True)


class _Writer(pickle.Pickler):
    """Writes rules, read-only mappings among them."""

    def reducer_override(self, value: object) -> Any:
        """How a mapping that cannot be changed is written."""
        return (read_only, (dict(value),)) if isinstance(value, MappingProxyType) else NotImplemented


def read_only(values: dict[str, Any]) -> MappingProxyType[str, Any]:
    """A mapping that cannot be changed."""
    return MappingProxyType(values)


class _Reader(pickle.Unpickler):
    """Reads back rules and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """A class of the rules' own; anything else is refused."""
        if (module, name) in _VALUES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")
