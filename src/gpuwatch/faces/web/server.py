"""The server of the screen in a browser: the door before everything, five files, and a websocket for each page's process.

It has its own handling of connections because none of textual-serve's fits (see the package); the front end is its. What is
sent is in `sent.py`.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from gpuwatch.errors import UsageError
from gpuwatch.faces.narration import Narrate, in_words
from gpuwatch.faces.web.door import Door, cookie_name
from gpuwatch.faces.web.sent import AGAIN, headers_for, page, plain_answer, refused_page, served_files
from gpuwatch.faces.web.session import MOST_COLUMNS, MOST_ROWS, Session
from gpuwatch.texts import plain, text

_MOST_MESSAGE_BYTES = 64 * 1024
_MOST_CONNECTIONS = 128
_HEARTBEAT_SECONDS = 15.0
_IDLE_SECONDS = 15.0
_CLOSE_SECONDS = 2.0
_FULL, _FAILED, _GARBAGE, _ENDED = 4001, 4002, 4003, 4004
_BACKLOG = 64

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebScreen:
    """Serves until `stop` is called. `argv` is what is started for each page; `most` how many there may be at a time."""

    def __init__(self, door: Door, argv: Sequence[str], *, most: int, say: Narrate = in_words) -> None:
        self.door = door
        self._argv = tuple(argv)
        self._most = most
        self._say = say
        self._files = served_files()
        self._page = page(most).encode()
        self._refused = refused_page()
        self._open: dict[web.WebSocketResponse, Session | None] = {}
        self._leaving: set[web.WebSocketResponse] = set()
        self._left = asyncio.Condition()
        self._endings: set[asyncio.Task[int]] = set()
        self._stop = asyncio.Event()

    async def serve(self, listener: socket.socket) -> None:
        """Serve on a socket that is bound, until told to stop; then end every session."""
        app = web.Application(middlewares=[self._guard()], client_max_size=_MOST_MESSAGE_BYTES)
        app.add_routes(
            [web.get("/", self._index), web.get("/ws", self._websocket), web.get("/static/{name}", self._static)]
        )
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=_IDLE_SECONDS, logger=_quiet_logger())
        await runner.setup()
        server = runner.server
        assert server is not None  # noqa: S101 - it was set up
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.BaseProtocol:
            return _HangUp() if len(server.connections) >= _MOST_CONNECTIONS else server()

        listening = await loop.create_server(connection, sock=listener, backlog=_BACKLOG)
        try:
            await self._stop.wait()
        finally:
            listening.close()
            await asyncio.gather(
                *(websocket.close(code=WSCloseCode.GOING_AWAY) for websocket in list(self._open)),
                return_exceptions=True,
            )
            await runner.cleanup()
            await asyncio.gather(*self._endings)

    def stop(self) -> None:
        """Have `serve` end."""
        self._stop.set()

    @property
    def pids(self) -> list[int]:
        """The processes of the pages that are open."""
        return [session.pid for session in self._open.values() if session is not None]

    # -- the door --------------------------------------------------------------------------------------------------------

    def _guard(self) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            try:
                response = self._sent_away(request) or await handler(request)
            except web.HTTPException as error:
                response = plain_answer(error.status, error.reason)
            except Exception as error:  # noqa: BLE001 - one page's fault ends no other's
                self._say(text("a page could not be served: {error}", error=repr(error)), level="error")
                response = plain_answer(500, "that failed")
            if not response.prepared:
                response.headers.update(headers_for(request.headers.get("Host") if response.status < 400 else None))
            return response

        return guard

    def _sent_away(self, request: web.Request) -> web.StreamResponse | None:
        """The answer for whom this is not; None for who may come in."""
        host = request.headers.get("Host")
        if not self.door.knows_host(host):
            return plain_answer(421, "this server does not go by that name")
        if self.door.lets_in(request.query.get("token")):
            return None
        if self.door.remembers(request.cookies.get(cookie_name(host))):
            return None
        if (
            request.path == "/"
            and request.headers.get("Sec-Fetch-Site") == "cross-site"
            and "token" not in request.query
        ):
            # A browser that came over a link keeps the cookie back; a page of our own makes it ask again, with the cookie.
            return web.Response(text=AGAIN, content_type="text/html")
        return web.Response(status=403, text=self._refused, content_type="text/html")

    # -- the files -------------------------------------------------------------------------------------------------------

    async def _index(self, request: web.Request) -> web.StreamResponse:
        if request.query_string:
            # The token must not stay in the address: it would be in the history, and the front end reads other words there.
            response = web.Response(status=303, headers={"Location": "/"})
            response.set_cookie(
                cookie_name(request.headers.get("Host")), self.door.cookie, httponly=True, samesite="Strict", path="/"
            )
            return response
        return web.Response(body=self._page, content_type="text/html", charset="utf-8")

    async def _static(self, request: web.Request) -> web.StreamResponse:
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        return web.Response(body=found.content, content_type=found.content_type)

    # -- the sessions ----------------------------------------------------------------------------------------------------

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if not self.door.is_ours(request.headers.get("Origin"), request.headers.get("Host")):
            return plain_answer(403, "only this server's own page may open it")
        websocket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT_SECONDS, max_msg_size=_MOST_MESSAGE_BYTES, compress=False, timeout=_CLOSE_SECONDS
        )
        if not websocket.can_prepare(request):
            raise web.HTTPBadRequest
        if not await self._place():
            await websocket.prepare(request)
            await websocket.close(code=_FULL)
            return websocket
        self._open[websocket] = None
        try:
            await websocket.prepare(request)
            columns = whole(request.query.get("width"), 80, MOST_COLUMNS)
            rows = whole(request.query.get("height"), 24, MOST_ROWS)
            await self._show(websocket, columns, rows)
        finally:
            del self._open[websocket]
            self._leaving.discard(websocket)
            async with self._left:
                self._left.notify_all()
        return websocket

    async def _place(self) -> bool:
        """Whether there is a place; waits for those who are about to leave, as a page does that is loaded again."""
        async with self._left:
            while len(self._open) >= self._most and self._leaving:
                await self._left.wait()
        return len(self._open) < self._most and not self._stop.is_set()

    async def _show(self, websocket: web.WebSocketResponse, columns: int, rows: int) -> None:
        """Run a session until the page or the process ends; afterwards there is neither."""
        try:
            session = await Session.start(self._argv, columns, rows)
        except OSError as error:
            self._say(text("a page's process could not be started: {error}", error=str(error)), level="error")
            await websocket.close(code=_FAILED)
            return
        self._open[websocket] = session
        drawing = asyncio.create_task(session.relay(websocket.send_bytes))
        listening = asyncio.create_task(listen(websocket, session))
        code = _ENDED
        try:
            await asyncio.wait({drawing, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not drawing.done():
                code = _GARBAGE
        finally:
            self._leaving.add(websocket)
            for task in (drawing, listening):
                task.cancel()
            await asyncio.gather(drawing, listening, return_exceptions=True)
            ending = asyncio.create_task(session.end())
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
            exit_code = await asyncio.shield(ending)
        if exit_code > 0:
            for line in session.last_words:
                self._say(plain(line), level="error")
            code = code if session.drew else _FAILED
        with suppress(ConnectionError, RuntimeError):
            await websocket.close(code=code)


async def listen(websocket: web.WebSocketResponse, session: Session) -> None:
    """Do what a page says, until it is closed or says what no page of ours does."""
    async for message in websocket:
        if message.type is not WSMsgType.TEXT or not await heard(message.data, session, websocket):
            return


async def heard(words: str, session: Session, websocket: web.WebSocketResponse) -> bool:
    """Do what one message says; False where it says nothing that there is."""
    try:
        match json.loads(words):
            case ["stdin", str(typed)]:
                await session.type(typed)
            case ["resize", {"width": int(columns), "height": int(rows)}]:
                await session.resize(min(max(columns, 1), MOST_COLUMNS), min(max(rows, 1), MOST_ROWS))
            case ["ping", str(when)]:
                await websocket.send_json(["pong", when])
            case ["focus" | "blur" as what]:
                await session.look(at_it=what == "focus")
            case _:
                return False
    except (ValueError, RecursionError):
        return False
    return True


class _HangUp(asyncio.Protocol):
    """Whoever is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Go."""
        transport.close()


def whole(words: str | None, otherwise: int, most: int) -> int:
    """A number of cells in an address; another one where there is none that can be."""
    return (
        int(words)
        if words and len(words) < 5 and words.isascii() and words.isdecimal() and 1 <= int(words) <= most
        else otherwise
    )


def bound(address: str, port: int) -> socket.socket:
    """A socket that listens there. Raises UsageError where that cannot be."""
    try:
        family, kind, protocol, _name, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(
            text("cannot listen on {host}:{port}: {reason}.", host=address, port=port, reason=reason),
            text("Choose another port with --port; 0 takes any that is free.")
            if isinstance(error, OSError) and error.errno in {errno.EADDRINUSE, errno.EACCES}
            else text("Choose another address with --host."),
        ) from error
    return listener


def _quiet_logger() -> logging.Logger:
    """Where the library tells of requests that are no HTTP: nowhere."""
    logger = logging.getLogger("gpuwatch.web")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
