"""Start a stand-in by hand: `python -m tests.standin --port 8188 --card 6GiB`, then `gpuwatch watch http://127.0.0.1:8188`."""

from __future__ import annotations

import argparse
import json
import threading
from pathlib import Path

from gpuwatch.faces.options import size
from tests.standin.comfyui import RECORDED, VERSIONS, ComfyUI
from tests.standin.failing import Card
from tests.standin.prompts import workflow
from tests.standin.server import standing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", choices=VERSIONS, default=VERSIONS[0])
    parser.add_argument("--port", type=int, default=8188)
    parser.add_argument("--card", type=size, default=6216965160, metavar="SIZE")
    parser.add_argument("--log", type=Path, metavar="FILE", help="write the log there, too")
    arguments = parser.parse_args()
    comfyui = ComfyUI(arguments.version, Card(arguments.card), log_file=arguments.log)
    with standing(comfyui, port=arguments.port) as standin:
        print(f"{standin.url} answers as ComfyUI {arguments.version} does; what it says is in {RECORDED}")
        print(f"curl {standin.url}/prompt -d '{json.dumps({'prompt': workflow(1280)})}'")
        threading.Event().wait()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print()
