"""What `gpuwatch run` is given is what the runner is told, whatever files are called."""

from __future__ import annotations

import argparse
from pathlib import Path

from gpuwatch.faces.commands import run
from gpuwatch_runner.command import parse


def test_names_that_begin_with_a_hyphen_reach_the_runner() -> None:
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    given = parser.parse_args(["ddcolor", "--out=-out", "--size", "256", "--force", "--", "-x.jpg", "--dtype"])
    job = parse(run.runner_arguments(given))
    assert ([str(path) for path in job.paths], job.out, job.size_px, job.force) == (
        ["-x.jpg", "--dtype"],
        Path("-out"),
        256,
        True,
    )
