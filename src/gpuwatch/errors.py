"""Every failure that gpuwatch itself reports: what happened, what to do about it, and the exit code.

Nothing else reaches a user as an error: `faces/cli.py` catches `GpuwatchError` in one place and prints it without a traceback.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar

from gpuwatch.texts import Text, render, text

if TYPE_CHECKING:
    from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class GpuwatchError(Exception):
    """A failure a person can act on: `message` says what and where, `hint` what to do next."""

    exit_code: ClassVar[int] = 4

    def __init__(self, message: Text, hint: Text | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return render(self.message)


class UsageError(GpuwatchError):
    """The command, its input or a rule file cannot be used as given."""

    exit_code = 2


class UnreachableError(GpuwatchError):
    """A server does not answer."""

    exit_code = 3


class JobError(GpuwatchError):
    """A job or a fix was tried and failed."""

    exit_code = 4


def why(error: Exception) -> str:
    """The system's word for an error."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def unreadable(path: Path | str, error: Exception, hint: Text | None = None) -> UsageError:
    """What a person is told of a file that the system does not give."""
    if hint is None and isinstance(error, PermissionError):
        return UsageError(
            text("{path}: you may not read this file.", path=str(path)),
            text("Run gpuwatch as a user that may, or give yours the right to read it."),
        )
    return UsageError(text("{path}: cannot be read: {error}", path=str(path), error=why(error)), hint)


def unwritable(path: Path | str, error: Exception, hint: Text | None = None) -> UsageError:
    """What a person is told of a file that the system does not take."""
    if isinstance(error, OSError) and error.errno in _FULL:
        hint = text("Free some space there, or name another place.")
    elif hint is None and isinstance(error, PermissionError):
        hint = text("Run gpuwatch as a user that may write there, or name another place.")
    return UsageError(text("{path}: cannot be written: {error}", path=str(path), error=why(error)), hint)
