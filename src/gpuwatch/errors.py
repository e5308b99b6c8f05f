"""Every failure that gpuwatch itself reports: what happened, what to do about it, and the exit code.

Nothing else reaches a user as an error: `faces/cli.py` catches `GpuwatchError` in one place and prints it without a traceback.
"""

from __future__ import annotations

from typing import ClassVar

from gpuwatch.texts import Text, render


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
