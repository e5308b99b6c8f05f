"""The stand-in's network: ComfyUI's routes over HTTP and its websocket, on a port of loopback, and all that goes wrong there."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import InvalidState
from websockets.server import ServerProtocol

from tests.standin import answers
from tests.standin.comfyui import ComfyUI

HTML = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"


@dataclass
class Hazards:
    """What goes wrong at the network, switched while the server runs."""

    statuses: dict[str, int] = field(default_factory=dict)
    """Path (without the base) -> the status that is answered instead."""
    html: bool = False
    slow: threading.Event | None = None
    """Where it is given, no request is answered before it is set."""
    padding_bytes: int = 0
    """Added to every entry of the history and of the queue."""
    raw: dict[str, bytes] = field(default_factory=dict)
    """Path -> the very bytes that are answered."""
    lost: set[str] = field(default_factory=set)
    """Paths whose POSTs are dealt with, and whose answers never arrive."""
    late: threading.Event | None = None
    """Where it is given, the connection of a POST is dropped, and the request dealt with once it is set."""


@dataclass
class Standin:
    """A server that can be stopped, and started again on the same port."""

    comfyui: ComfyUI
    base: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """Requests without these are refused with 401."""
    tls: ssl.SSLContext | None = None
    hazards: Hazards = field(default_factory=Hazards)
    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path with its query of each request."""
    connections: set[socket.socket] = field(default_factory=set)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}{self.base}"

    def up(self) -> None:
        """Listen."""
        server = _Server(("127.0.0.1", self.port), _handler(self))
        if self.tls is not None:
            server.socket = self.tls.wrap_socket(server.socket, server_side=True)
        self.port = server.server_address[1]
        self._server = server
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def down(self) -> None:
        """Stop listening and drop every connection, as a process that is killed."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.drop()

    def drop(self) -> None:
        """Drop every connection; new ones are taken."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def restart(self) -> None:
        """The process ends and another begins on the same port."""
        self.down()
        self.comfyui.restart()
        self.up()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        pass  # a connection that was dropped


@contextmanager
def standing(comfyui: ComfyUI | None = None, **options: Any) -> Iterator[Standin]:
    """A running stand-in, until the end of the block."""
    standin = Standin(comfyui or ComfyUI(), **options)
    standin.up()
    try:
        yield standin
    finally:
        if standin.hazards.slow is not None:
            standin.hazards.slow.set()
        standin.comfyui.end()
        standin.down()


def _handler(standin: Standin) -> type[BaseHTTPRequestHandler]:
    comfyui = standin.comfyui

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def log_message(self, *_: object) -> None:
            pass

        def setup(self) -> None:
            super().setup()
            standin.connections.add(self.connection)

        def finish(self) -> None:
            standin.connections.discard(self.connection)
            with suppress(OSError):
                super().finish()

        def do_GET(self) -> None:
            self.route("GET")

        def do_POST(self) -> None:
            self.route("POST")

        def do_PATCH(self) -> None:
            self.route("PATCH")

        def route(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            standin.asked.append((method, self.path))
            if standin.hazards.slow is not None:
                standin.hazards.slow.wait(60)
            place = urlsplit(self.path)
            if any(self.headers.get(name) != value for name, value in standin.headers.items()):
                self.answer(401, b"who are you?", "text/plain")
                return
            if not place.path.startswith(standin.base):
                self.answer(404, HTML, "text/html")
                return
            path = place.path.removeprefix(standin.base)
            if path in standin.hazards.raw:
                self.answer(200, standin.hazards.raw[path])
            elif path in standin.hazards.statuses:
                self.answer(standin.hazards.statuses[path], b"", "application/octet-stream")
            elif standin.hazards.html:
                self.answer(200, HTML, "text/html")
            elif method == "POST" and standin.hazards.late is not None:
                threading.Thread(target=self.deal_late, args=(standin.hazards.late, path, body), daemon=True).start()
                self.drop()
            elif path == "/ws":
                self.websocket(parse_qs(place.query).get("clientId", ["anonymous"])[0])
            else:
                self.serve(method, path, {k: v[0] for k, v in parse_qs(place.query).items()}, body)

        def deal_late(self, word: threading.Event, path: str, body: bytes) -> None:
            if word.wait(60) and path == "/prompt":
                comfyui.submit(json.loads(body))

        def drop(self) -> None:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        def serve(self, method: str, path: str, query: dict[str, str], body: bytes) -> None:
            if not path.startswith(("/api/jobs", "/internal")):
                path = path.removeprefix("/api")
            if method == "POST" and path == "/upload/image":
                self.json(answers.upload(comfyui, self.headers["Content-Type"], body))
                return
            try:
                asked = json.loads(body) if body else {}
            except ValueError:
                self.answer(500, b"500 Internal Server Error", "text/plain")
                return
            if method == "GET":
                self.read(path, query)
            elif method == "PATCH" and path == "/internal/logs/subscribe":
                with comfyui.lock:
                    (comfyui.subscribed.add if asked["enabled"] else comfyui.subscribed.discard)(asked["clientId"])
                self.answer(200, b"")
            elif path == "/prompt":
                status, answer = comfyui.submit(asked)
                self.json(answer, status)
            else:
                actions: dict[str, Callable[[], None]] = {
                    "/free": lambda: comfyui.free(asked),
                    "/interrupt": lambda: comfyui.stop_running(asked.get("prompt_id")),
                    "/queue": lambda: comfyui.delete(asked.get("delete", []), clear=bool(asked.get("clear"))),
                }
                if path in actions:
                    actions[path]()
                self.answer(200 if path in actions else 404, b"")

        def read(self, path: str, query: dict[str, str]) -> None:
            limit = int(query["limit"]) if "limit" in query else None
            if path == "/system_stats":
                self.json(answers.system_stats(comfyui))
            elif path == "/queue":
                self.json(self.padded(answers.queue(comfyui)))
            elif path == "/prompt":
                self.json({"exec_info": {"queue_remaining": comfyui.remaining}})
            elif path == "/history":
                most = int(query["max_items"]) if "max_items" in query else None
                self.json(self.padded(answers.recent(comfyui, most, int(query.get("offset", -1)))))
            elif path.startswith("/history/"):
                id_ = path.removeprefix("/history/")
                self.json({id_: comfyui.history[id_]} if id_ in comfyui.history else {})
            elif path == "/api/jobs" and comfyui.modern:
                statuses = {word for word in query.get("status", "").split(",") if word}
                if statuses - {"pending", "in_progress", "completed", "failed", "cancelled"}:
                    self.json({"error": "Invalid status value(s)"}, 400)
                else:
                    self.json(answers.jobs(comfyui, statuses, limit, int(query.get("offset", 0))))
            elif path.startswith("/api/jobs/") and comfyui.modern:
                job = answers.job(comfyui, path.removeprefix("/api/jobs/"))
                self.json(job or {"error": "Job not found"}, 200 if job else 404)
            elif path.startswith("/object_info"):
                self.json(comfyui.recorded["object_info"])
            elif path == "/view":
                picture = answers.view(comfyui, query)
                self.answer(200 if picture else 404, picture or b"", "image/png")
            elif path == "/internal/logs/raw":
                with comfyui.lock:
                    self.json({"entries": list(comfyui.ring), "size": {"cols": 80, "rows": 24}})
            else:
                self.answer(404, b"", "application/octet-stream")

        def padded(self, value: dict[str, Any]) -> dict[str, Any]:
            if not standin.hazards.padding_bytes:
                return value
            padding = {"padding": "x" * standin.hazards.padding_bytes}
            return {
                name: entry | padding
                if isinstance(entry, dict)
                else [[*item[:3], item[3] | padding, *item[4:]] for item in entry]
                for name, entry in value.items()
            }

        def json(self, value: Any, status: int = 200) -> None:
            self.answer(status, json.dumps(value).encode())

        def answer(self, status: int, body: bytes, kind: str = "application/json; charset=utf-8") -> None:
            if self.command == "POST" and urlsplit(self.path).path.removeprefix(standin.base) in standin.hazards.lost:
                self.drop()
                return
            with suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

        def websocket(self, client: str) -> None:
            self.close_connection = True
            protocol, sending = ServerProtocol(), threading.Lock()
            head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
            protocol.receive_data(f"{self.requestline}\r\n{head}\r\n".encode())
            (request,) = protocol.events_received()
            protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]

            def flush() -> None:
                for data in protocol.data_to_send():
                    if data:
                        self.connection.sendall(data)

            def send(frame: dict[str, Any]) -> None:
                with sending, suppress(OSError, InvalidState):
                    protocol.send_text(json.dumps(frame).encode())
                    flush()

            flush()
            with comfyui.lock:
                comfyui.clients[client] = send  # whoever had the id before stays open and hears nothing more
                remaining = {"exec_info": {"queue_remaining": comfyui.remaining}}
                comfyui.send(client, "status", {"status": remaining, "sid": client})
            with suppress(OSError):
                while data := self.connection.recv(65536):
                    with sending:
                        protocol.receive_data(data)
                        protocol.events_received()
                        flush()
                    if protocol.close_expected():
                        break
            with comfyui.lock:
                if comfyui.clients.get(client) is send:
                    del comfyui.clients[client]
                    comfyui.subscribed.discard(client)

    return Handler
