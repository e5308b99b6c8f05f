"""Debian's Chromium for tests: without a window, spoken to over its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NEEDS_CHROMIUM = [
    pytest.mark.xdist_group("chromium"),  # one at a time: it takes both cores
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed"),
]
DEADLINE_SECONDS = 90.0
"""Generous: two cores may be busy with other tests."""

CONTROL, SHIFT = 2, 8
_KEY_NUMBERS = {"Escape": 27, "Enter": 13}
_LOOK_SECONDS = 0.05


class Browser:
    """One page. `requests` are the addresses that it asked for, and `said` what its console told."""

    def __init__(self, folder: Path, width: int = 1200, height: int = 760, *flags: str) -> None:
        assert CHROMIUM is not None
        self.requests: list[str] = []
        self.said: list[str] = []
        self._reading: threading.Thread | None = None
        self._numbers = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._process = subprocess.Popen(
            [
                CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-sync",
                "--remote-debugging-port=0", f"--user-data-dir={folder}", f"--window-size={width},{height}", *flags,
                "about:blank",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        self._opened = ExitStack()
        self._opened.callback(self._end)
        try:
            self._socket = self._opened.enter_context(connect(self._address(), max_size=None, compression=None))
            self._open_page(width, height)
        except BaseException:
            self._opened.close()
            raise

    def _open_page(self, width: int, height: int) -> None:
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._page = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def _address(self) -> str:
        """Where it listens; what it says after that is read, so that it never waits to be."""
        errors = self._process.stderr
        assert errors is not None
        said = []
        for line in errors:
            said.append(line)
            if (found := re.search(r"DevTools listening on (ws://\S+)", line)) is not None:
                self._reading = threading.Thread(target=errors.read, daemon=True)
                self._reading.start()
                return found[1]
        raise AssertionError("Chromium does not start:\n" + "".join(said))

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What a method of the page's answers."""
        return self._call(method, session=self._page, **parameters)

    def _call(self, method: str, *, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        envelope = {"id": number, "method": method, "params": parameters}
        self._socket.send(json.dumps(envelope | ({"sessionId": session} if session else {})))
        deadline = time.monotonic() + DEADLINE_SECONDS
        while number not in self._answers:
            self._take(deadline)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _take(self, deadline: float) -> None:
        told = json.loads(self._socket.recv(timeout=max(deadline - time.monotonic(), 0.01)))
        if "id" in told:
            self._answers[told["id"]] = told
        elif told["method"] == "Network.requestWillBeSent":
            self.requests.append(told["params"]["request"]["url"])
        elif told["method"] == "Network.webSocketCreated":
            self.requests.append(told["params"]["url"])
        elif told["method"] == "Log.entryAdded":
            self.said.append(told["params"]["entry"]["text"])
        elif told["method"] == "Runtime.exceptionThrown":
            self.said.append(str(told["params"]["exceptionDetails"]))

    def go(self, address: str) -> None:
        """Open an address."""
        self.ask("Page.navigate", url=address)

    def value(self, script: str) -> Any:
        """What a script says in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def write(self, words: str) -> None:
        """Type letters."""
        for letter in words:
            told = {"key": letter, "code": f"Key{letter.upper()}", "windowsVirtualKeyCode": ord(letter.upper())}
            self.ask("Input.dispatchKeyEvent", type="keyDown", text=letter, **told)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **told)

    def key(self, name: str, modifiers: int = 0, *commands: str) -> None:
        """Press a key that writes nothing; `commands` are what the browser does on it."""
        told = {"key": name, "code": name if len(name) > 1 else f"Key{name.upper()}", "modifiers": modifiers}
        told |= {"windowsVirtualKeyCode": _KEY_NUMBERS.get(name) or ord(name.upper())}
        self.ask("Input.dispatchKeyEvent", type="rawKeyDown", commands=list(commands), **told)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **told)

    def mouse(self, kind: str, place: tuple[float, float], modifiers: int = 0, *, down: bool) -> None:
        """Do something with the mouse; `down`: its left button is."""
        x, y = place
        told = {
            "button": "left" if kind != "mouseMoved" or down else "none",
            "buttons": int(down),
            "modifiers": modifiers,
        }
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, clickCount=1, **told)

    def click(self, x: float, y: float) -> None:
        """Click."""
        self.drag((x, y), (x, y))

    def drag(self, begin: tuple[float, float], end: tuple[float, float], modifiers: int = 0) -> None:
        """Press there, let go here."""
        self.mouse("mouseMoved", begin, modifiers, down=False)
        self.mouse("mousePressed", begin, modifiers, down=True)
        if end != begin:
            self.mouse("mouseMoved", end, modifiers, down=True)
        self.mouse("mouseReleased", end, modifiers, down=False)

    def pages(self) -> int:
        """How many there are."""
        return sum(each["type"] == "page" for each in self._call("Target.getTargets")["targetInfos"])

    def picture(self) -> bytes:
        """A PNG of the page."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])

    def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not holds():
            assert time.monotonic() < deadline, f"never came: {what}\n{self.said}"
            with suppress(TimeoutError):
                self._take(time.monotonic() + _LOOK_SECONDS)

    def settle(self, seconds: float) -> None:
        """Let that much time go by, for a picture."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(TimeoutError):
                self._take(deadline)

    def close(self) -> None:
        """End it."""
        self._opened.close()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(DEADLINE_SECONDS)
        if self._reading is not None:
            self._reading.join(DEADLINE_SECONDS)
        assert self._process.stderr is not None
        self._process.stderr.close()
