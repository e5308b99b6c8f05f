"""The screen in a real browser: seen, typed at, clicked, copied from; and nothing asked of any other host."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image
from rich.cells import cell_len

from gpuwatch.faces.commands.web import pointing_file
from tests.faces.browser import CONTROL, NEEDS_CHROMIUM, SHIFT, Browser
from tests.faces.terminal import ROOT
from tests.faces.web_screen import TOKEN, serving

pytestmark = NEEDS_CHROMIUM

RECORDED = ROOT / "tests" / "data" / "recordings" / "comfyui-0.24.0-oom_large_1280-stderr.log"
SCREEN = [sys.executable, "-m", "gpuwatch.faces.web.screen", "--lang", "en", "--read-only", "--no-journal", "--"]
TEXT_IN_PAGE = "--disable-3d-apis"
"""Without WebGL the front end draws each cell as text of the page, which can be read as a person does."""
ROWS = "[...document.querySelectorAll('.xterm-rows > div')].map((row) => row.textContent).join('\\n')"
MARKED = b"see http://attacker.example/page and copy_this_word from here\n"


@contextmanager
def browsing(folder: Path, address: str, *flags: str) -> Iterator[Browser]:
    browser = Browser(folder, 1200, 760, *flags)
    try:
        browser.go(address)
        browser.until(lambda: browser.value("document.body?.classList.contains('-first-byte')"), "the screen")
        yield browser
    finally:
        browser.close()


def shown(browser: Browser) -> str:
    """What stands on the screen; characters of two cells have nothing between them."""
    return str(browser.value(ROWS)).replace("\xa0", " ")


def seen(browser: Browser, *words: str) -> None:
    browser.until(lambda: all(word in shown(browser) for word in words), str(words))


def place_of(browser: Browser, words: str, *, end: bool = False) -> tuple[float, float]:
    """Where words stand, or where they end, in the page's pixels."""
    rows = shown(browser).split("\n")
    number, line = next((number, line) for number, line in enumerate(rows) if words in line)
    box = browser.value("document.querySelector('.xterm-screen').getBoundingClientRect().toJSON()")
    column = cell_len(line[: line.index(words)]) + (cell_len(words) - 0.2 if end else 0.2)
    return box["left"] + box["width"] * column / cell_len(rows[0]), box["top"] + box["height"] * (number + 0.5) / len(
        rows
    )


def test_the_screen_is_seen_typed_at_and_clicked(tmp_path: Path) -> None:
    log = tmp_path / "comfyui.log"
    log.write_bytes(RECORDED.read_bytes() + MARKED)
    with (
        serving([*SCREEN, str(log)]) as server,
        pointing_file(f"http://{server.host}/?token={TOKEN}") as pointer,
        browsing(tmp_path / "profile", pointer.as_uri(), TEXT_IN_PAGE) as browser,
    ):
        seen(browser, "GPU memory ran out", "DDColor_Colorize at model_input_size 1280", "copy_this_word", "follows")
        assert browser.value("location.href") == f"http://{server.host}/"
        assert browser.value("document.title") == "gpuwatch"
        assert browser.value("document.cookie") == "", "no script reads it"
        assert browser.value("document.fonts.check('15px \"Roboto Mono\"')")

        browser.click(*place_of(browser, "? help", end=True))
        seen(browser, "says why, and what helps")
        browser.key("Escape")
        browser.until(lambda: "says why, and what helps" not in shown(browser), "the help's end")
        browser.write("a")
        seen(browser, "This screen only shows;")

        pages = browser.pages()
        browser.click(*place_of(browser, "attacker.example"))
        browser.value(
            "document.addEventListener('copy', (event) => { window.copied = event.clipboardData.getData('text/plain') })"
        )
        browser.drag(place_of(browser, "copy_this_word"), place_of(browser, "copy_this_word", end=True), SHIFT)
        browser.key("c", CONTROL, "copy")
        browser.until(lambda: browser.value("window.copied"), "the copy")
        assert browser.value("window.copied") == "copy_this_word"
        assert browser.pages() == pages, "an address in the log opens nothing"

        browser.write("l")
        seen(browser, "故障", "原因与解决办法")
        browser.write("q")
        browser.until(lambda: browser.value("document.querySelector('#notice p').checkVisibility()"), "that it ended")
        assert browser.value("document.querySelector('#notice p').textContent") == "This screen has ended."
        browser.value("document.querySelector('#notice button').click()")
        seen(browser, "GPU memory ran out", "follows")

        asked = [request for request in browser.requests if not request.startswith(("data:", "file:"))]
        assert {urlsplit(request).netloc for request in asked} == {server.host}
        assert [words for words in browser.said if "sandbox" not in words] == []


def median(browser: Browser) -> int:
    """How bright the page is, from 0 to 255; one that is all the same is not drawn yet."""
    with Image.open(io.BytesIO(browser.picture())) as picture:
        assert picture.size == (1200, 760)
        values = sorted(picture.convert("L").resize((60, 38), Image.Resampling.BOX).tobytes())
    return values[len(values) // 2] if values[-1] - values[0] > 40 else -1


def test_it_is_drawn_and_other_pages_of_the_same_browser_get_nothing(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "log").write_bytes(RECORDED.read_bytes())
    with (
        serving([*SCREEN, str(tmp_path / "log")]) as server,
        site(tmp_path / "site") as other,
        browsing(
            tmp_path / "profile",
            f"http://{server.host}/?token={TOKEN}",
            "--host-resolver-rules=MAP * 127.0.0.1",
        ) as browser,
    ):
        browser.until(lambda: 10 < median(browser) < 60, "something on dark")
        browser.write("t")
        browser.until(lambda: median(browser) > 200, "something on light")
        (tmp_path / "site" / "index.html").write_text(
            "<title>other</title><script>"
            f"const socket = new WebSocket('ws://{server.host}/ws?width=80&height=24');"
            "socket.onopen = () => { window.ended = 'open' }; socket.onerror = () => { window.ended = 'refused' };"
            f"fetch('http://{server.host}/').then((answer) => answer.text(), () => '').then("
            f"(words) => {{ window.read = words + '.' }});</script><iframe src='http://{server.host}/'></iframe>"
        )
        for origin in (f"127.0.0.1:{other}", f"attacker.example:{other}"):
            browser.go(f"http://{origin}/")
            browser.until(lambda: browser.value("window.ended && window.read"), "what became of it")
            assert browser.value("window.ended") == "refused"
            assert browser.value("window.read") == ".", "nothing is read"
            framed = browser.value("(() => { try { return frames[0].document.title } catch { return '' } })()")
            assert framed != "gpuwatch"
            browser.until(lambda: server.screen.pids == [], "the end of the page that was left")
        browser.go(f"http://attacker.example:{server.port}/?token={TOKEN}")
        browser.until(
            lambda: "does not go by that name" in str(browser.value("document.body?.textContent")), "the refusal"
        )


@contextmanager
def site(folder: Path) -> Iterator[int]:
    """Another web server on this machine; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_words: object) -> None:
        """Say nothing."""
