"""A smaller size for a job of a kind that has run here: by the curve through those runs, with what it will then take."""

from __future__ import annotations

from typing import Any

from gpuwatch.core.case import Case
from gpuwatch.core.diagnosis import Fix, Prediction
from gpuwatch.core.learned.jobs import shown_sizes
from gpuwatch.core.learned.runs import shrunk
from gpuwatch.texts import plain, text


def plan_measured_size(case: Case) -> list[Fix]:
    """The largest size that surely fits by the runs here; nothing where they do not tell, or say that this one fits."""
    known, ran, room = case.experience, case.ran, case.measured_room_bytes
    if known is None or known.curve is None or ran is None or room is None or case.balance.oddity is not None:
        return []
    found = shrunk(known, ran, room)
    if found is None:
        return []
    sizes, then = found
    title = text(
        "Set {inputs} of {node} to {sizes} (it was {were}): needs at most {need_bytes}.",
        inputs=plain(" x ".join(sizes)), node=plain(f"{ran.sized.type} #{ran.sized.id}"), sizes=plain(shown_sizes(sizes)),
        were=plain(shown_sizes(ran.sized.sizes)), need_bytes=then.high,
    )  # fmt: skip
    note = text(
        "By {runs} runs of this kind of job measured here, within {error_ratio}.",
        runs=known.curve.runs, error_ratio=known.curve.within_ratio,
    )  # fmt: skip
    params: dict[str, Any] = {"node_id": ran.sized.id, "node_type": ran.sized.type, "inputs": dict(sizes)}
    if len(sizes) == 1:
        ((name, to),) = sizes.items()
        params |= {"input": name, "from": ran.sized.sizes[name], "to": to}
    predicted = Prediction(round(then.high), "yes" if then.high <= room else "uncertain")
    return [Fix("shrink_size", title, "changes_output", params, predicted, note=note, grounds="numbers")]
