"""A web server on loopback that serves one file, and misbehaves as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Files:
    """What the server does, and what it was asked."""

    content: bytes
    etag: str | None = '"one"'
    cut_after: list[int] = field(default_factory=list)
    """For each of the next answers: the bytes of the body after which the connection is cut."""
    statuses: list[int] = field(default_factory=list)
    """The next answers' statuses, before it behaves."""
    headers: dict[str, str] = field(default_factory=dict)
    redirect: dict[str, str] = field(default_factory=dict)
    redirect_headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    told_bytes: int | None = None
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """Path, Range and If-Range of each request."""
    address: str = ""


@contextmanager
def serving(files: Files) -> Iterator[Files]:
    """Serve on a free port until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.close_connection = True
            asked_range, if_range = self.headers.get("Range"), self.headers.get("If-Range")
            files.asked.append((self.path, asked_range, if_range))
            if self.path in files.redirect:
                self.send_response(302)
                self.send_header("Location", files.redirect[self.path])
                for name, value in files.redirect_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if files.statuses:
                self.send_error(files.statuses.pop(0))
                return
            start = 0
            if asked_range and files.ranges and if_range == files.etag:
                start = int(asked_range.removeprefix("bytes=").rstrip("-"))
            body = files.content[start:]
            if start and start >= len(files.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(files.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                last = len(files.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(files.content)}")
            if files.etag:
                self.send_header("ETag", files.etag)
            for name, value in files.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(files.told_bytes or len(body)))
            self.end_headers()
            self.wfile.write(body[: files.cut_after.pop(0)] if files.cut_after else body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    files.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
