"""Where a person keeps what is theirs: the folder of their own rules, and the one of downloaded checkpoints.

The place is a pure function of the environment and the home folder, so that it can be tested without either. What is in the
folder is read elsewhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from gpuwatch.errors import UsageError, unreadable
from gpuwatch.texts import text

VARIABLE = "GPUWATCH_CONFIG_DIR"
DATA_VARIABLE = "GPUWATCH_DATA_DIR"
CACHE_VARIABLE = "GPUWATCH_CACHE_DIR"
STATE_VARIABLE = "GPUWATCH_STATE_DIR"
NOTIFY_SECRET_VARIABLE = "GPUWATCH_NOTIFY_SECRET"  # noqa: S105 - the variable's name


def config_folder(environment: Mapping[str, str], home: Path | None) -> Path | None:
    """The person's folder, whether it is there or not; None where there is no home to keep it in."""
    if named := environment.get(VARIABLE):
        return Path(named)
    if (base := environment.get("XDG_CONFIG_HOME")) and Path(base).is_absolute():
        return Path(base) / "gpuwatch"
    return home / ".config" / "gpuwatch" if home is not None else None


def data_folder(environment: Mapping[str, str] | None = None, home: Path | None = None) -> Path | None:
    """Where large files are kept, whether it is there or not; None where there is no home to keep them in."""
    environment = os.environ if environment is None else environment
    if named := environment.get(DATA_VARIABLE):
        return Path(named)
    if (base := environment.get("XDG_DATA_HOME")) and Path(base).is_absolute():
        return Path(base) / "gpuwatch"
    home = home or home_folder()
    return home / ".local" / "share" / "gpuwatch" if home is not None else None


def cache_folder(environment: Mapping[str, str] | None = None, home: Path | None = None) -> Path | None:
    """Where what can be made again is kept, whether it is there or not; None where there is no home to keep it in."""
    environment = os.environ if environment is None else environment
    if named := environment.get(CACHE_VARIABLE):
        return Path(named)
    if (base := environment.get("XDG_CACHE_HOME")) and Path(base).is_absolute():
        return Path(base) / "gpuwatch"
    home = home or home_folder()
    return home / ".cache" / "gpuwatch" if home is not None else None


def state_folder(environment: Mapping[str, str] | None = None, home: Path | None = None) -> Path | None:
    """Where what happened is kept, whether it is there or not; None where there is no home to keep it in."""
    environment = os.environ if environment is None else environment
    if named := environment.get(STATE_VARIABLE):
        return Path(named)
    if (base := environment.get("XDG_STATE_HOME")) and Path(base).is_absolute():
        return Path(base) / "gpuwatch"
    home = home or home_folder()
    return home / ".local" / "state" / "gpuwatch" if home is not None else None


def journal_path(named: Path | None = None) -> Path | None:
    """The journal's file: the one that was named, else the person's own; None where there is no home to keep it in."""
    folder = state_folder()
    return named or (folder / "journal.db" if folder is not None else None)


def own_rules_folder(environment: Mapping[str, str] | None = None, home: Path | None = None) -> Path | None:
    """The folder of the person's own rules; None where there is none.

    Raises UsageError where $GPUWATCH_CONFIG_DIR names no folder, or where it cannot be told what is there.
    """
    environment = os.environ if environment is None else environment
    folder = config_folder(environment, home or home_folder())
    if folder is None:
        return None
    if environment.get(VARIABLE) and not is_folder(folder):
        raise UsageError(
            text("{variable}: there is no folder {folder}.", variable=VARIABLE, folder=str(folder)),
            text("Make the folder, or unset the variable."),
        )
    rules = folder / "rules"
    return rules if is_folder(rules) else None


def own_mutes_file(environment: Mapping[str, str] | None = None, home: Path | None = None) -> Path | None:
    """The person's mutes.yaml, whether it is there or not; None where there is no home to keep it in."""
    folder = config_folder(os.environ if environment is None else environment, home or home_folder())
    return folder / "mutes.yaml" if folder is not None else None


def has_own_mutes() -> bool:
    """Whether there is such a file: asked before what reads it is loaded."""
    path = own_mutes_file()
    return path is not None and os.path.lexists(path)


def rule_suffix(path: Path) -> bool:
    """Whether a file of that name is read as a rule file."""
    return path.suffix in (".yaml", ".yml") and not path.name.startswith(".")


def is_folder(path: Path) -> bool:
    """Whether a folder is there. Raises UsageError for something else in its place, and where that cannot be told."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise unreadable(
            path, error, text("Make it readable, or name another folder in {variable}.", variable=VARIABLE)
        ) from error
    if not stat.S_ISDIR(mode):
        raise UsageError(
            text("{folder} is no folder.", folder=str(path)),
            text("Move it away, or name another folder in {variable}.", variable=VARIABLE),
        )
    return True


def home_folder() -> Path | None:
    """The home folder; None for a user that has none."""
    try:
        return Path.home()
    except RuntimeError:
        return None
