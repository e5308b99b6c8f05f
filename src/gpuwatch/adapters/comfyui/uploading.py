"""A photo's bytes, and their way into a server's input folder."""

from __future__ import annotations

import uuid
from pathlib import Path

from gpuwatch.adapters.comfyui.client import Client, NoAnswerError
from gpuwatch.adapters.comfyui.reading import words_of
from gpuwatch.core.loop.bulk import FOLDER, Photo
from gpuwatch.errors import UsageError, why
from gpuwatch.texts import text

MOST_UPLOAD_BYTES = 512 << 20


def read_photo(photo: Photo) -> bytes:
    """A photo's bytes. Raises UsageError, which does not name the photo, where there are none, or too many."""
    try:
        with Path(photo.path).open("rb") as file:
            content = file.read(MOST_UPLOAD_BYTES + 1)
    except OSError as error:
        raise UsageError(text("cannot be read: {error}", error=why(error))) from error
    if len(content) > MOST_UPLOAD_BYTES:
        raise UsageError(text("it is larger than {most_bytes}.", most_bytes=MOST_UPLOAD_BYTES))
    return content


def upload(client: Client, name: str, content: bytes) -> str:
    """Put a photo into the server's input folder; what a LoadImage node calls it there. Raises NoAnswerError."""
    boundary = f"gpuwatch{uuid.uuid4().hex}"
    fields = (("type", "input"), ("subfolder", FOLDER), ("overwrite", "true"))
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields
    )
    head += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    answer = client.send_bytes("/upload/image", body, f"multipart/form-data; boundary={boundary}")
    told = answer if isinstance(answer, dict) else {}
    stored = words_of(told.get("name"))
    if stored is None:
        raise NoAnswerError(
            "not_json", text("{server}: does not say where it put the photo.", server=client.server.name)
        )
    folder = words_of(told.get("subfolder"))
    return f"{folder}/{stored}" if folder else stored
