"""Many photos through one workflow: which node takes the photo, what each result is called, what is left to do.

A manifest of a line a photo lets a run be stopped anywhere and go on. Lines are only added; the last one about a photo counts.
A line says `queued` once the server took the prompt, and `done` once the result is whole on disk.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from gpuwatch.core.workflow.graph import Node, Workflow
from gpuwatch.core.workflow.places import Edit, edited
from gpuwatch.texts import Text, text

INPUT = "image"
LOADERS = ("LoadImage", "LoadImageMask", "LoadImageOutput")
FOLDER = "gpuwatch"
"""The subfolder of the server's input folder that photos go to."""
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,5}")
_LONGEST = 4096
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jxl"})

State = Literal["queued", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo to be done."""

    path: str
    """Where it is."""
    name: str
    """Where it stands in the tree that is mirrored: with slashes, without a drive or dots."""
    size_bytes: int
    mtime_ns: int

    @property
    def upload_name(self) -> str:
        """Its name on the server: the same each time, and no other photo's."""
        place = PurePosixPath(self.name)
        stem = _UNSAFE.sub("_", place.stem)[:60].strip("_") or "photo"
        suffix = place.suffix if _SUFFIX.fullmatch(place.suffix) else ""
        told = f"{self.name}\0{self.size_bytes}\0{self.mtime_ns}".encode("utf-8", "surrogateescape")
        return f"{stem}-{hashlib.blake2s(told, digest_size=5).hexdigest()}{suffix.lower()}"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the manifest says of one photo."""

    name: str
    size_bytes: int
    mtime_ns: int
    state: State
    server: str = ""
    job: str = ""
    outputs: tuple[str, ...] = ()
    output_bytes: int = 0
    """Of the first output."""

    def is_of(self, photo: Photo) -> bool:
        """Whether the photo is still the one that the line was written about."""
        return (self.name, self.size_bytes, self.mtime_ns) == (photo.name, photo.size_bytes, photo.mtime_ns)

    def line(self, **more: Any) -> str:
        """The line of the manifest."""
        return json.dumps(
            {
                "input": self.name,
                "input_bytes": self.size_bytes,
                "input_mtime_ns": self.mtime_ns,
                "state": self.state,
                "server": self.server,
                "job": self.job,
                "outputs": list(self.outputs),
                "output_bytes": self.output_bytes,
                **more,
            },
            ensure_ascii=True,
        )


def photo_node(workflow: Workflow, node_id: str | None) -> Node | Text:
    """The node that takes the photo, or why none can be told."""
    if workflow.form != "api":
        return text("it is the editor's form; a server runs the API form. Save it with Export (API).")
    if node_id is not None:
        node = workflow.node(node_id)
        if node is None:
            return text("it has no node {id}.", id=node_id)
        inputs = node.raw.get("inputs")
        if not isinstance(inputs, dict) or not isinstance(inputs.get(INPUT), str):
            return text("node {id} ({type}) takes no picture by its file name.", id=node_id, type=node.type)
        return node
    found = workflow.of_type(*LOADERS)
    if not found:
        return text("it has no LoadImage node for the photo to go to; name one with --input.")
    if len(found) > 1:
        known = ", ".join(f"{node.id} ({node.title or node.type})" for node in found[:8])
        return text(
            "it has {count} nodes that load a picture; say which with --input: {known}", count=len(found), known=known
        )
    return found[0]


def with_photo(prompt: Mapping[str, Any], node_id: str, uploaded: str) -> Mapping[str, Any]:
    """The prompt with that photo in it."""
    return dict(edited(prompt, [Edit((node_id, "inputs", INPUT), uploaded)]))


def output_names(photos: Iterable[Photo]) -> dict[str, str]:
    """By photo, the name of its result without an ending; photos that differ in their ending alone keep it."""
    listed = list(photos)
    stems: dict[str, int] = {}
    for photo in listed:
        stem = str(PurePosixPath(photo.name).with_suffix("")).lower()
        stems[stem] = stems.get(stem, 0) + 1
    return {
        photo.name: photo.name
        if stems[str(PurePosixPath(photo.name).with_suffix("")).lower()] > 1
        else str(PurePosixPath(photo.name).with_suffix(""))
        for photo in listed
    }


def output_paths(stem: str, filenames: Iterable[str]) -> list[str]:
    """Where the pictures of one photo go: under our name, with the ending that the server gave where that is a picture's."""
    paths = []
    for number, filename in enumerate(filenames, start=1):
        suffix = PurePosixPath(filename.replace("\\", "/")).suffix.lower()
        more = "" if number == 1 else f"_{number}"
        paths.append(f"{stem}{more}{suffix if suffix in PICTURES else '.png'}")
    return paths


def read_entries(lines: Iterable[bytes]) -> dict[str, Entry]:
    """What the manifest says last of each photo; a line that was cut off, or is of another shape, says nothing."""
    found: dict[str, Entry] = {}
    for line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(value, dict):
            continue
        name, state = value.get("input"), value.get("state")
        sizes = [value.get(key) for key in ("input_bytes", "input_mtime_ns", "output_bytes")]
        words = [value.get(key) for key in ("server", "job")]
        outputs = value.get("outputs")
        if not isinstance(name, str) or len(name) > _LONGEST or state not in ("queued", "done", "failed"):
            continue
        if not all(isinstance(size, int) for size in sizes) or not all(isinstance(word, str) for word in words):
            continue
        if not isinstance(outputs, list) or not all(isinstance(path, str) and is_inside(path) for path in outputs):
            continue
        found[name] = Entry(
            name,
            int(sizes[0] or 0),
            int(sizes[1] or 0),
            state,
            str(words[0]),
            str(words[1]),
            tuple(outputs),
            int(sizes[2] or 0),
        )
    return found


def is_inside(path: str) -> bool:
    """Whether a relative path stays in its folder."""
    place = PurePosixPath(path)
    return not place.is_absolute() and ".." not in place.parts and "\0" not in path
