"""What draws the screen where a browser shows it: Textual's own web driver, held to what `gpuwatch web` allows.

It ends the program when the server is gone, however that ended, hands out no files and opens no addresses.
"""

from __future__ import annotations

import asyncio
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, TextIO

from textual import messages
from textual.drivers.web_driver import WebDriver

_LAST_SECONDS = 5.0


class BrowserDriver(WebDriver):
    """Draws into the pipe to the server, and reads keys from the other one."""

    def __init__(
        self, app: Any, *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._write = partial(self._write_or_end)
        self._ending = threading.Event()

    def run_input_thread(self) -> None:
        """Read keys until there are no more to come."""
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._end()

    def _write_or_end(self, data: bytes) -> int:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self.fileno, view) :]
        except OSError:
            self._end()
        return len(data)

    def _end(self) -> None:
        """The server is gone: end as a person would, and where that takes too long, without asking."""
        if self._ending.is_set():
            return
        self._ending.set()
        last = threading.Timer(_LAST_SECONDS, os._exit, (1,))
        last.daemon = True
        last.start()
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._app._post_message(messages.ExitApp()), self._loop)

    def open_url(self, url: str, new_tab: bool = True) -> None:
        """Open nothing."""

    def deliver_binary(
        self,
        binary: BinaryIO | TextIO,
        *,
        delivery_key: str,
        save_path: Path,  # noqa: ARG002
        open_method: Literal["browser", "download"] = "download",  # noqa: ARG002
        encoding: str | None = None,  # noqa: ARG002
        mime_type: str | None = None,  # noqa: ARG002
        name: str | None = None,
    ) -> None:
        """Hand out nothing."""
        binary.close()
        self._delivery_failed(delivery_key, exception=PermissionError("files are not handed out"), name=name)
