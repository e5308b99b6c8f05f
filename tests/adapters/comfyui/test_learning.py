"""From jobs that a server ran to a size for one that it could not: the whole way, over HTTP and a journal on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.comfyui.acting import Hands
from gpuwatch.adapters.comfyui.address import server_of
from gpuwatch.adapters.comfyui.client import Client
from gpuwatch.adapters.comfyui.mending import Mender, Proposal
from gpuwatch.adapters.journal.runs import read_learned
from gpuwatch.adapters.journal.writing import Journal
from gpuwatch.adapters.rulecache import load_matcher
from gpuwatch.core.engine import Engine
from gpuwatch.core.learned.runs import RunMeasured
from gpuwatch.faces.cli import main
from gpuwatch.pipeline import Pipeline
from gpuwatch.texts import render
from tests.adapters.comfyui.beside import RULES, WORKLOADS, Beside, source, submit, watching
from tests.core.learned.samples import learned
from tests.standin.comfyui import VERSIONS, ComfyUI
from tests.standin.failing import PAINTER_FIXED_BYTES, PAINTER_PIXEL_BYTES
from tests.standin.prompts import painting
from tests.standin.server import Standin, standing
from tests.workflows import knowledge

GIB = 1 << 30


class Clock:
    """The watcher's time, which goes on when the test says so."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Story:
    """A server, who watches it, and the journal that is kept of it."""

    def __init__(self, standin: Standin, beside: Beside, clock: Clock, journal: Path) -> None:
        self.standin, self.beside, self.clock, self.journal = standin, beside, clock, journal

    def runs(self) -> list[RunMeasured]:
        return [event for event in self.beside.events if isinstance(event, RunMeasured)]

    def run(self, prompt: dict[str, Any]) -> RunMeasured:
        """Run a job, slowly enough that the card is looked at meanwhile."""
        comfyui, known, ended = self.standin.comfyui, len(self.runs()), len(self.beside.jobs())
        self.clock.now += timedelta(seconds=10)
        comfyui.gate.clear()
        submit(self.standin, prompt)
        with comfyui.changed:
            assert comfyui.changed.wait_for(lambda: comfyui.running is not None, 30)
        total = comfyui.card.total_bytes
        working = comfyui.card.working_bytes
        self.beside.until(
            lambda: any(total - (seen.free_bytes or 0) >= working for seen in self.beside.snapshot.servers.values())
        )
        comfyui.gate.set()
        self.beside.until(lambda: len(self.beside.jobs()) > ended and len(self.runs()) > known)
        return self.runs()[-1]


@contextmanager
def watched(version: str, journal_file: Path) -> Iterator[Story]:
    clock = Clock()
    with standing(ComfyUI(version)) as standin:
        engine = Engine(RULES, WORKLOADS, shows_records=False, correlates=True, learned=read_learned(journal_file))
        journal = Journal(journal_file, lambda words: pytest.fail(render(words)), clock=clock)
        beside = Beside(Pipeline(engine, [source(standin, clock=clock)]))
        beside.pipeline.keep_with(journal)
        beside.pipeline.subscribe(beside.listen)
        beside.pipeline.start()
        try:
            beside.heard(standin)
            yield Story(standin, beside, clock, journal_file)
        finally:
            beside.pipeline.stop()
            journal.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_jobs_that_ran_tell_what_size_fits_when_one_does_not(
    version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = tmp_path / "journal.db"
    with watched(version, journal) as story:
        for width, height in ((512, 512), (768, 768), (1024, 768), (1024, 1024)):
            run = story.run(painting(width, height))
            assert (run.bound, run.ran.pixels) == ("exactly", width * height)
            assert run.peak_bytes == PAINTER_FIXED_BYTES + PAINTER_PIXEL_BYTES * width * height
    with watched(version, journal) as story:  # another day: what was learned is on disk
        out = story.run(painting(1344, 1344))
        assert out.bound == "at_least"
        story.beside.until(lambda: story.beside.incidents("cuda_oom") and story.beside.incidents("cuda_oom")[0].job_id)
        (incident,) = story.beside.incidents("cuda_oom")
        diagnosis = incident.diagnosis
        assert diagnosis is not None
        assert "the largest of this kind measured here had 1.05 and took about 3.93 GiB" in render(
            diagnosis.cause, "en"
        )
        assert any("Measured here: 4 runs" in render(line, "en") for line in diagnosis.evidence)
        fix = diagnosis.fixes[0]
        assert (fix.action, fix.grounds, dict(fix.params)["inputs"]) == (
            "shrink_size",
            "numbers",
            {"width": 1216, "height": 1216},
        )
        assert fix.predicted is not None
        needs = PAINTER_FIXED_BYTES + PAINTER_PIXEL_BYTES * 1216 * 1216
        assert fix.predicted.fits == "yes"
        assert needs <= fix.predicted.peak_bytes <= 1.05 * needs
        again = story.run(painting(1216, 1216))  # and so it is
        assert again.bound == "exactly"
        story.standin.comfyui.card.total_bytes = 49 * GIB // 10  # a smaller card
        story.run(painting(1216, 1152))
        story.beside.until(
            lambda: len(story.beside.incidents("cuda_oom")) == 2 and story.beside.incidents("cuda_oom")[1].job_id
        )
        smaller = story.beside.incidents("cuda_oom")[1].diagnosis
        assert smaller is not None
        assert "takes about 4.91 GiB by the runs measured here; the card has 4.90 GiB" in render(smaller.cause, "en")
        assert smaller.confidence == 0.8  # words, job, measured, server
    assert main(["predict", "learned", "--journal", str(journal), "--json"]) == 0
    (kind,) = json.loads(capsys.readouterr().out)["learned"]
    assert (kind["nodes"], kind["settings"], kind["runs"]) == (["GWPainter"], ["brush.safetensors"], 7)
    asked = ["learned", kind["workload"][:4], "--journal", str(journal), "--json"]
    assert main(["predict", *asked, "--size", "900x900", "--gpu-memory", "4GiB"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["fits"], told["source"]) == ("yes", "measured")
    assert told["process_bytes"]["mid"] == pytest.approx(PAINTER_FIXED_BYTES + PAINTER_PIXEL_BYTES * 810_000, rel=0.01)
    assert main(["predict", *asked, "--size", "4096"]) == 0
    assert json.loads(capsys.readouterr().out)["process_bytes"] is None
    assert main(["fit", *asked, "--gpu-memory", "3GiB"]) == 0
    (choice,) = json.loads(capsys.readouterr().out)["choices"]
    assert PAINTER_FIXED_BYTES + PAINTER_PIXEL_BYTES * choice["pixels"] <= 3 * GIB
    assert main(["fit", *asked, "--gpu-memory", "1GiB"]) == 1


def test_a_job_is_told_of_though_its_workflow_and_the_card_cannot_be_asked() -> None:
    with standing() as standin, watching(source(standin)) as beside:
        beside.heard(standin)
        id_ = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
        standin.hazards.statuses |= {f"/api/jobs/{id_}": 500, "/system_stats": 500}
        submit(standin, painting(512, 512), prompt_id=id_)
        (job,) = beside.until(beside.jobs)
        assert (job.job_id, job.outcome, job.ran) == (id_, "success", None)


def test_what_was_learned_mends_a_failed_job() -> None:
    with standing() as standin, closing(Hands(Client(server_of(standin.url)))) as hands:
        mender = Mender(hands, load_matcher(), WORKLOADS, knowledge(), learned=lambda: learned(512, 768, 1024))
        comfyui = standin.comfyui

        def ended(id_: str) -> bool:
            with comfyui.changed:
                assert comfyui.changed.wait_for(lambda: id_ in comfyui.history, 30)
            return bool(comfyui.history[id_]["status"]["completed"])

        failed = submit(standin, painting(1344, 1344))
        assert not ended(failed)
        proposal = mender.propose(hands.failed_job(failed))
        assert isinstance(proposal, Proposal)
        assert dict(proposal.retry.after) == {"width": 1216, "height": 1216}
        assert proposal.retry.plan.fits == "yes"
        assert ended(mender.carry_out(proposal).id)
