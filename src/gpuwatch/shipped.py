"""Finds what ships with the program: rules and dashboards, from an installed wheel or from a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gpuwatch.errors import UsageError
from gpuwatch.texts import text


def shipped_folder(name: Literal["rules", "dashboards"]) -> Path:
    """The folder of that name. A wheel carries it inside the package, a checkout at its root.

    Raises UsageError where it is in neither.
    """
    package = Path(__file__).parent
    inside = package / "_shipped" / name
    if inside.is_dir():
        return inside
    checkout = package.parent.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / name).is_dir():
        return checkout / name
    raise UsageError(
        text("the {name} that ship with gpuwatch are missing from {folder}.", name=name, folder=str(package)),
        text("Install gpuwatch again."),
    )
