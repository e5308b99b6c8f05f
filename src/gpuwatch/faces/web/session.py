"""One page's process: started from a list of words, spoken to in packets, and ended with the page, whatever it is doing.

A packet is a letter, four bytes of length and as many bytes: D for what the terminal shows or what was typed, M for
everything else as JSON. Only the server makes the M packets that the process gets; what a browser says is checked before.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from gpuwatch.texts import visible

MOST_COLUMNS, MOST_ROWS = 1000, 500
PRELUDE = b"__GANGLION__\n"
"""Textual's web driver begins so."""

_MOST_PACKET_BYTES = 16 * 1024 * 1024
_MOST_WORDS_BYTES = 4096
_PRELUDE_LINES = 10
_POLITE_SECONDS = 4.0
_TERM_SECONDS = 3.0
_DATA, _META = b"D", b"M"


class Session:
    """A process with a screen."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.drew = False
        """Whether it has begun to draw."""
        self._process = process
        self._last_words = b""
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, argv: Sequence[str], columns: int, rows: int) -> Session:
        """Start it. Raises OSError where that cannot be done."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment_for(os.environ, columns, rows),
            start_new_session=True,  # the terminal's Ctrl-C is for the server, which ends the sessions itself
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def last_words(self) -> list[str]:
        """The last lines of what it said on stderr, fit to be shown."""
        return [visible(line) for line in self._last_words.decode("utf-8", "replace").strip().splitlines()]

    async def relay(self, show: Callable[[bytes], Awaitable[None]]) -> None:
        """Hand on what it draws until it ends."""
        output = self._process.stdout
        assert output is not None  # noqa: S101 - it was asked for
        try:
            for _number in range(_PRELUDE_LINES):
                line = await output.readline()
                if line == PRELUDE:
                    break
                if not line:
                    return
            self.drew = True
            while True:
                kind = await output.readexactly(1)
                size = int.from_bytes(await output.readexactly(4), "big")
                if size > _MOST_PACKET_BYTES:
                    return
                payload = await output.readexactly(size)
                if kind == _DATA:
                    await show(payload)
                elif kind == _META and meta_type(payload) == "exit":
                    return
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            return  # it is gone, or the page is, or what it writes are no packets

    async def type(self, words: str) -> None:
        """Hand on what was typed or pasted, or what the mouse did."""
        await self._send(_DATA, words.encode("utf-8", "replace"))

    async def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal's new size."""
        await self._tell({"type": "resize", "width": columns, "height": rows})

    async def look(self, *, at_it: bool) -> None:
        """Tell whether the page has the focus."""
        await self._tell({"type": "focus" if at_it else "blur"})

    async def end(self) -> int:
        """End it: its input is closed, then it is told, then it is killed with all that it started. Its exit code."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        for number, seconds in ((None, _POLITE_SECONDS), (signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, None)):
            if process.returncode is None and number is not None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, number)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._gone(), seconds)
                break
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        return process.returncode if process.returncode is not None else -1

    async def _gone(self) -> None:
        """Wait for its end; what it still draws is thrown away, because a full pipe would keep it."""
        output = self._process.stdout
        while output is not None and await output.read(65536):
            pass
        await self._process.wait()

    async def _tell(self, meta: Mapping[str, str | int]) -> None:
        await self._send(_META, json.dumps(meta).encode())

    async def _send(self, kind: bytes, payload: bytes) -> None:
        stdin = self._process.stdin
        if stdin is None or stdin.is_closing():
            return
        with suppress(ConnectionError, RuntimeError):
            stdin.write(kind + len(payload).to_bytes(4, "big") + payload)
            await stdin.drain()

    async def _listen(self) -> None:
        errors = self._process.stderr
        assert errors is not None  # noqa: S101 - it was asked for
        while data := await errors.read(_MOST_WORDS_BYTES):
            self._last_words = (self._last_words + data)[-_MOST_WORDS_BYTES:]


def meta_type(payload: bytes) -> object:
    """What kind of M packet this is; None where it is none."""
    try:
        told = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return told.get("type") if isinstance(told, dict) else None


def environment_for(environment: Mapping[str, str], columns: int, rows: int) -> dict[str, str]:
    """Ours, and what makes Textual draw for a browser. The terminal that the server was started in does not matter."""
    kept = {name: value for name, value in environment.items() if name not in {"TEXTUAL", "LINES"}}
    return kept | {
        "TEXTUAL_DRIVER": "gpuwatch.faces.web.driver:BrowserDriver",
        "TEXTUAL_FPS": "60",
        "TEXTUAL_COLOR_SYSTEM": "truecolor",
        "TERM": "xterm-256color",
        "TERM_PROGRAM": "textual",
        "COLUMNS": str(columns),
        "ROWS": str(rows),
        "PYTHONUTF8": "1",
    }
