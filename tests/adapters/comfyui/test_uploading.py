"""A photo that cannot be handed on is told so in the reader's language."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuwatch.adapters.comfyui import uploading
from gpuwatch.core.loop.bulk import Photo
from gpuwatch.errors import UsageError
from gpuwatch.texts import render


def test_a_photo_that_is_gone_or_too_large_is_told_in_either_language(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "photo.jpg"
    photo = Photo(str(path), "photo.jpg", 5, 1)
    with pytest.raises(UsageError) as gone:
        uploading.read_photo(photo)
    assert "No such file" in render(gone.value.message, "en")
    path.write_bytes(bytes(1025))
    assert uploading.read_photo(photo) == bytes(1025)
    monkeypatch.setattr(uploading, "MOST_UPLOAD_BYTES", 1024)
    with pytest.raises(UsageError) as large:
        uploading.read_photo(photo)
    assert render(large.value.message, "en") == "it is larger than 1.00 KiB."
    assert render(large.value.message, "zh") == "超过 1.00 KiB。"
