"""What the runs of a kind of job answer, and when they keep silent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuwatch.adapters.workloads import load_workloads
from gpuwatch.core.learned.offset import offset_of
from gpuwatch.core.learned.runs import MOST_KINDS, MOST_OF_KIND, Learned
from gpuwatch.core.workflow.changes import Card
from gpuwatch.core.workflow.graph import read_workflow
from gpuwatch.core.workflow.plan import plan_fix
from gpuwatch.core.workflow.trouble import Trouble
from gpuwatch.core.workload import predict
from gpuwatch.core.workloads import Workloads
from gpuwatch.texts import render
from tests.core.learned.samples import GIB, learned, ran, run
from tests.standin.prompts import LARGE, painting, workflow
from tests.workflows import knowledge


def test_two_sizes_tell_nothing_and_three_tell_of_those_between() -> None:
    assert learned(512, 768, 768, 512).every()[0].curve is None
    (known,) = learned(512, 768, 1024).every()
    need = known.need(800 * 800)
    assert need is not None
    assert need.mid == pytest.approx(GIB + 3000 * 640_000)
    assert known.fits(800 * 800, 4 * GIB) == "yes"
    assert known.fits(1024 * 1024, 3.9 * GIB) == "uncertain"
    assert known.fits(1024 * 1024, 3 * GIB) == "no"
    assert known.fits(3000 * 3000, 80 * GIB) == "uncertain"
    assert known.fits(100 * 100, 80 * GIB) == "uncertain"


def test_jobs_below_what_lay_there_and_those_that_ran_out_do_not_bend_the_curve() -> None:
    runs = [run(512), run(768), run(1024), run(640, "at_most", peak=7 * GIB), run(1100, "at_least", peak=5 * GIB)]
    (known,) = Learned.of(runs).every()
    assert known.curve == learned(512, 768, 1024).every()[0].curve
    assert known.ran_pixels == 1024**2


def test_no_size_fits_that_failed_here_until_one_so_large_has_run() -> None:
    runs = [run(512), run(768), run(1024), run(900, "at_least", at=5, peak=8 * GIB)]
    known = Learned.of(runs).every()[0]
    assert known.fits(900 * 900, 8 * GIB) == "uncertain"
    assert known.fits(800 * 800, 8 * GIB) == "yes"
    assert known.largest_pixels(8 * GIB) == 900 * 900 - 1
    assert known.fits(900 * 900, 12 * GIB) == "yes", "there it had more room"
    again = Learned.of([*runs, run(960, at=9)]).every()[0]
    assert again.fits(900 * 900, 8 * GIB) == "yes"


def test_runs_apart_from_each_other_widen_the_band() -> None:
    runs = [run(side, peak=(GIB + 3000 * side * side) * factor) for side, factor in
            ((512, 1.1), (640, 0.9), (768, 1.1), (896, 0.9), (1024, 1.1), (1152, 0.9))]  # fmt: skip
    (known,) = Learned.of(runs).every()
    assert known.curve is not None
    assert 0.08 < known.curve.error_ratio < 0.4


def test_memory_that_grows_with_the_square_is_followed() -> None:
    runs = [run(side, peak=GIB + 4e-3 * side**4) for side in (512, 640, 768, 896, 1024)]
    (known,) = Learned.of(runs).every()
    assert known.curve is not None
    assert known.curve.power == 2
    need = known.need(1152 * 1152)
    assert need is not None
    assert need.low <= GIB + 4e-3 * 1152**4 <= need.high


def test_what_is_kept_is_bounded() -> None:
    many = learned(*range(64, 64 + 8 * 2 * MOST_OF_KIND, 8))
    assert [len(known.runs) for known in many.every()] == [MOST_OF_KIND]
    for number in range(MOST_KINDS + 5):
        other = ran(painting(512, 512, f"{number}.safetensors"))
        many = many.after(replace(run(512), ran=other))
    assert len(many.kinds) == MOST_KINDS
    assert many.experience(run(64).ran) is None


def test_a_workflow_whose_kind_ran_here_is_made_as_large_as_fits() -> None:
    here, card = learned(512, 768, 1024), Card(3 * GIB)
    file = read_workflow(painting(1024, 1024))
    plan = plan_fix(file, [], card, Workloads(), knowledge(), learned=here)
    assert [(change.input, change.after) for change in plan.changes] == [("width", 832), ("height", 832)]
    (outlook,) = plan.outlooks
    assert (outlook.fits, plan.fits) == ("yes", "yes")
    assert outlook.need_bytes is not None
    assert GIB + 3000 * 832**2 <= outlook.need_bytes.high <= 3 * GIB
    assert "measured here" in render(plan.changes[0].why, "en")
    fits = plan_fix(file, [], Card(8 * GIB), Workloads(), knowledge(), learned=here)
    assert (fits.changes, fits.fits, fits.unfixable) == ((), "yes", ())
    failed = Trouble(node_id="5", node_type="GWPainter")
    assert plan_fix(file, [failed], card, Workloads(), knowledge(), learned=here).changes == plan.changes
    unknown = plan_fix(
        read_workflow(painting(4096, 4096, "other.safetensors")), [], card, Workloads(), knowledge(), learned=here
    )
    assert unknown.changes == ()


def test_how_far_predictions_were_off_here() -> None:
    profile = load_workloads().named("ddcolor")
    assert profile is not None
    here = Learned()
    for number, (side, factor) in enumerate(((512, 0.95), (768, 1.02), (1024, 1.0))):
        peak = predict(profile, "large", side).process_bytes.mid * factor
        here = here.after(replace(run(512, at=number, peak=peak), ran=ran(workflow(side, LARGE))))
    off = offset_of(here, profile, "large")
    assert off is not None
    assert (off.runs, off.low_ratio, off.high_ratio) == (
        3,
        pytest.approx(0.95, rel=1e-6),
        pytest.approx(1.02, rel=1e-6),
    )
    assert offset_of(here, profile, "tiny") is None
    assert offset_of(here, profile, "large", "fp16") is None
    shared = Learned.of(replace(each, alone=False) for known in here.every() for each in known.runs)
    assert offset_of(shared, profile, "large") is None
