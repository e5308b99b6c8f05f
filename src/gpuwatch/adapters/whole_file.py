"""Files that are whole for whoever reads them: written beside, then put in place in one step."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from gpuwatch.errors import UsageError
from gpuwatch.texts import text


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or leave what is there as it is. Raises UsageError where it cannot be written."""
    place = Path(os.path.realpath(path))
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # another program's user reads it
        Path(temporary).replace(place)
    except OSError as error:
        if temporary:
            with suppress(OSError):
                Path(temporary).unlink()
        raise UsageError(
            text("{path}: cannot be written: {error}", path=str(path), error=error.strerror or str(error))
        ) from error
