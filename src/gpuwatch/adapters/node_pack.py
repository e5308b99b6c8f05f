"""gpuwatch's node in a ComfyUI: which files make it, putting them in place whole, telling and taking away what was put.

The pack is a folder of its own in custom_nodes. Copied, it holds every module that the node needs, found by following their
imports, so it works in ComfyUI's Python without gpuwatch there; linked, it holds only the door and says where gpuwatch is.
Nothing outside that folder is touched, and in it nothing that gpuwatch did not write.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from gpuwatch import __version__
from gpuwatch.core.workload import WorkloadProfile, predict
from gpuwatch.errors import JobError, UsageError
from gpuwatch.texts import plain, text

Mode = Literal["copy", "link"]
FOLDER = "gpuwatch-ddcolor"
STAMP = "gpuwatch-node.json"
NEEDS = "needs.json"
DOOR = "gpuwatch_runner.comfyui_node.entry"
FIRST_MODULES = ("gpuwatch_runner.comfyui_node.node",)
PACKAGES = ("gpuwatch", "gpuwatch_runner")
COPIES = "packages"
LANDMARKS = ("main.py", "nodes.py", "comfy/model_management.py", "custom_nodes")
"""What a ComfyUI has."""
NEED_SIDES_PX = (256, 512, 1024, 2048)
_STAMP_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Stamp:
    """What an install wrote."""

    version: str
    mode: Mode
    files: Mapping[str, str]
    """Each file, relative to the pack's folder, with its SHA-256."""


@dataclass(frozen=True, slots=True)
class Installed:
    """What is in a ComfyUI."""

    folder: Path
    stamp: Stamp
    changed: tuple[str, ...]
    """Files that are not as they were written."""
    missing: tuple[str, ...]


def custom_nodes_of(comfyui: Path) -> Path:
    """The folder of packs of a ComfyUI; UsageError for a folder that is none, with what was looked for."""
    missing = [mark for mark in LANDMARKS if not (comfyui / mark).exists()]
    if not missing:
        return comfyui / "custom_nodes"
    inside = comfyui / "ComfyUI"
    hint = (
        text("Is {inside} meant?", inside=inside)
        if all((inside / mark).exists() for mark in LANDMARKS)
        else text("Name the folder that has ComfyUI's main.py in it.")
    )
    raise UsageError(
        text("{folder} is no ComfyUI: it has no {missing}.", folder=comfyui, missing=plain(", ".join(missing))), hint
    )


def pack_files(mode: Mode, profile: WorkloadProfile) -> dict[str, bytes]:
    """Every file of the pack, but for the stamp, by its place in it."""
    roots = package_roots()
    files = {
        "__init__.py": source_of(DOOR, roots).read_bytes(),
        NEEDS: json.dumps(needs_of(profile), separators=(",", ":")).encode(),
    }
    if mode == "copy":
        for path in sorted(modules_needed(FIRST_MODULES, roots)):
            package = next(name for name, root in roots.items() if path.is_relative_to(root))
            files[f"{COPIES}/{package}/{path.relative_to(roots[package]).as_posix()}"] = path.read_bytes()
        for path in sorted((roots["gpuwatch"] / "locale").rglob("*.mo")):
            files[f"{COPIES}/gpuwatch/{path.relative_to(roots['gpuwatch']).as_posix()}"] = path.read_bytes()
    return files


def package_roots() -> dict[str, Path]:
    """Where the two packages lie; the runner's is found without importing it. Raises UsageError where one is missing."""
    roots = {}
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise UsageError(
                text("{name} is not installed beside gpuwatch.", name=name), text("Install gpuwatch again.")
            )
        roots[name] = Path(next(iter(spec.submodule_search_locations))).resolve()
    return roots


def source_of(module: str, roots: Mapping[str, Path]) -> Path:
    """The file of a module, which may be a package's own."""
    package, *parts = module.split(".")
    place = roots[package].joinpath(*parts)
    file = place.with_name(f"{place.name}.py")
    return file if file.is_file() else place / "__init__.py"


def modules_needed(first: tuple[str, ...], roots: Mapping[str, Path]) -> set[Path]:
    """The files of these modules and of all that they import from the two packages, directly or not."""
    found: set[Path] = set()
    waiting = list(first)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name.partition(".")[0] not in roots:
            continue
        seen.add(name)
        parent = name.rpartition(".")[0]
        if parent:
            waiting.append(parent)
        path = source_of(name, roots)
        if not path.is_file():
            continue  # a name in a module, and not a module
        found.add(path)
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                waiting.extend(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                waiting.append(node.module)
                waiting.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def needs_of(profile: WorkloadProfile) -> dict[str, object]:
    """What passes need, for the node to choose how many images it takes at once: predicted, the high end."""
    passes = []
    forms = product(profile.variants, ("none", "tail", "fold"), ("fp32", "fp16"), (1, 2))
    for variant, rewrite, dtype, images in forms:
        with suppress(KeyError):  # no trace of that is shipped
            needs = [
                (side, predict(profile, variant, side, dtype, rewrite=rewrite, batch=images)) for side in NEED_SIDES_PX
            ]
            points = [[side, round(need.budget_bytes.high)] for side, need in needs]
            row = {"variant": variant, "rewrite": rewrite, "dtype": dtype, "images": images}
            passes.append({**row, "bytes": points})
    return {"source": "predicted", "passes": passes}


def find_installed(custom_nodes: Path) -> Installed | None:
    """The pack that is there; None where there is none. UsageError for a folder of its name that gpuwatch did not write."""
    folder = custom_nodes / FOLDER
    if not folder.exists() and not folder.is_symlink():
        return None
    stamp = None if folder.is_symlink() else read_stamp(folder / STAMP)
    if stamp is None:
        raise UsageError(
            text("{folder} is there, and gpuwatch did not write it.", folder=folder),
            text("Move it away, then run it again."),
        )
    found = {name: _digest_of(folder / name) for name in stamp.files}
    changed = tuple(name for name, digest in found.items() if digest not in (None, stamp.files[name]))
    return Installed(folder, stamp, changed, tuple(name for name, digest in found.items() if digest is None))


def read_stamp(path: Path) -> Stamp | None:
    """What an install wrote about itself; None where that cannot be read, or names a file outside of the pack."""
    try:
        with path.open("rb") as file:
            told = json.loads(file.read(_STAMP_LIMIT_BYTES))
        files = {str(name): str(digest) for name, digest in told["files"].items()}
        mode: Mode = "link" if told["mode"] == "link" else "copy"
        version = str(told["gpuwatch"])
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    inside = all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in files)
    return Stamp(version, mode, files) if inside else None


def install(custom_nodes: Path, mode: Mode, files: Mapping[str, bytes], *, force: bool = False) -> Installed | None:
    """Put the pack in place, whole or not at all; gives what was there before.

    UsageError where files of the one before were changed by someone, unless `force` gives them up.
    """
    before = find_installed(custom_nodes)
    if before is not None and not force:
        refuse_changed(before)
    folder = custom_nodes / FOLDER
    # ComfyUI loads no folder whose name ends so, and a start meanwhile finds the old pack or the new one.
    fresh = custom_nodes / f".{FOLDER}.new.disabled"
    old = custom_nodes / f".{FOLDER}.old.disabled"
    try:
        for leftover in (fresh, old):
            if leftover.exists():
                shutil.rmtree(leftover)
        for name, content in {**files, STAMP: _stamp_bytes(mode, files)}.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if before is not None:
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if before is not None:
                old.rename(folder)
            raise
    except OSError as error:
        with suppress(OSError):
            shutil.rmtree(fresh, ignore_errors=True)
        reason = plain(error.strerror or str(error))
        raise JobError(text("{folder} cannot be written: {reason}", folder=folder, reason=reason)) from error
    shutil.rmtree(old, ignore_errors=True)
    return before


def refuse_changed(installed: Installed) -> None:
    """UsageError where files are not as they were written."""
    if installed.changed:
        names = plain(", ".join(installed.changed[:3]))
        raise UsageError(
            text(
                "{count} files in {folder} were changed: {names}",
                count=len(installed.changed),
                folder=installed.folder,
                names=names,
            ),
            text("Keep a copy of them if you need it; --force gives them up."),
        )


def uninstall(installed: Installed, *, force: bool = False) -> tuple[Path, ...]:
    """Take away what the install wrote; gives what stays because it was not gpuwatch's.

    Raises UsageError where a file was changed, JobError where one cannot be removed.
    """
    if not force:
        refuse_changed(installed)
    folder = installed.folder
    try:
        for name in (*installed.stamp.files, STAMP):
            path = folder / name
            path.unlink(missing_ok=True)
            for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
                compiled.unlink(missing_ok=True)
        for place, _folders, _files in os.walk(folder, topdown=False):
            with suppress(OSError):  # something else is in it
                Path(place).rmdir()
    except OSError as error:
        reason = plain(error.strerror or str(error))
        raise JobError(text("{folder} cannot be removed: {reason}", folder=folder, reason=reason)) from error
    return tuple(sorted(path for path in folder.rglob("*") if not path.is_dir())) if folder.exists() else ()


def _stamp_bytes(mode: Mode, files: Mapping[str, bytes]) -> bytes:
    place: Callable[[str], str] = (
        (lambda name: f"{COPIES}/{name}") if mode == "copy" else (lambda name: str(package_roots()[name]))
    )
    told = {
        "gpuwatch": __version__,
        "mode": mode,
        "packages": {name: place(name) for name in PACKAGES},
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    return json.dumps(told, indent=1).encode()


def _digest_of(path: Path) -> str | None:
    try:
        if not path.is_file():
            return "" if os.path.lexists(path) else None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
