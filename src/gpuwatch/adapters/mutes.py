"""What the person muted, for who only wants to know: what reads the file is loaded where there is one."""

from __future__ import annotations

from gpuwatch.core.mutes import Mutes
from gpuwatch.settings import has_own_mutes


def own_mutes() -> Mutes:
    """The person's mutes; none where there is no file. Raises UsageError that names every mistake."""
    if not has_own_mutes():
        return Mutes()
    from gpuwatch.adapters.mute_file import load_mutes  # noqa: PLC0415 - it brings YAML, which most runs do without

    return load_mutes()
