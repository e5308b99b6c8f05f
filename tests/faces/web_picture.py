"""Makes docs/screens/web-en.png and web-zh.png, in Chromium: python -m tests.faces.web_picture"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image

from tests.faces.terminal import ROOT
from tests.faces.test_web_chromium import RECORDED, SCREEN, browsing
from tests.faces.web_screen import TOKEN, serving

_COLOURS = 256


def main() -> None:
    """Write both."""
    for language in ("en", "zh"):
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "comfyui.log"
            log.write_bytes(RECORDED.read_bytes())
            argv = [language if word == "en" else word for word in SCREEN]
            with (
                serving([*argv, str(log)]) as server,
                browsing(Path(folder) / "profile", f"http://{server.host}/?token={TOKEN}") as browser,
            ):
                before = b""
                while before != (picture := browser.picture()):  # until nothing changes any more
                    before = picture
                    browser.settle(2.0)
        with Image.open(io.BytesIO(picture)) as drawn:
            drawn.convert("RGB").quantize(_COLOURS).save(
                ROOT / "docs" / "screens" / f"web-{language}.png", optimize=True
            )


if __name__ == "__main__":
    main()
