"""Run by the terminal tests: the screen over the file that is named, with the tests' own rules."""

from __future__ import annotations

import sys

from gpuwatch.adapters.sources.file import FileSource
from gpuwatch.core.engine import Engine
from gpuwatch.faces.tui.app import WatchApp
from gpuwatch.pipeline import Pipeline
from tests.faces.tui_story import RULES

if __name__ == "__main__":
    source = FileSource.from_path(sys.argv[1], from_start=True, show_history=True)
    WatchApp(Pipeline(Engine(RULES), [source])).run()
    sys.stdout.write("the screen is gone\n")
