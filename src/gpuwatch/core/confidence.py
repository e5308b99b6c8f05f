"""How surely the cause is the one that is named: a sum over who says so. Defined in docs/memory.md; a test holds it monotone.

It is about why a failure came about, not whether it did: the program's own words are enough for that.
"""

from __future__ import annotations

from gpuwatch.core.case import Case
from gpuwatch.core.causes import FOREIGN_BYTES, least_of_others

WORDS = 0.5
"""The program's words alone."""
SETTLED = 0.8
"""Words that leave no doubt on the cause: those of every failure that is not for want of memory."""
VAGUE = 0.4
"""Words that say only that something failed."""
NUMBERS, JOB_TOLD, JOB_GUESSED, MODEL, DRIVER = 0.15, 0.1, 0.05, 0.15, 0.05
"""What is added by the message's sizes, by the failed node's own inputs or the same read from the sizes, by a prediction that
explains the failure, and by the driver or server where it tells the same card."""
_SAME_CARD = (0.85, 1.05)


def confidence_in_memory(case: Case) -> float:
    """For a failure for want of GPU memory. Numbers that contradict each other add nothing."""
    sure = WORDS
    if case.balance.oddity is None and case.balance.tried_bytes is not None:
        sure += NUMBERS if case.balance.free_bytes is not None else NUMBERS / 3
    if case.need is not None and case.shape is not None:
        sure += JOB_TOLD if case.shape.known_from == "inputs" else JOB_GUESSED
        sure += MODEL if model_explains(case) else 0
    elif case.measured_need is not None and case.measured_room_bytes is not None:
        sure += JOB_TOLD
        sure += MODEL if case.measured_need.high > case.measured_room_bytes else 0
    if driver_agrees(case):
        sure += DRIVER
    return round(sure, 2)


def confidence_otherwise(case: Case) -> float:
    """For every other failure: whether its words name the cause."""
    return VAGUE if case.incident.rule.fallback else SETTLED


def model_explains(case: Case) -> bool:
    """Whether the memory model says why: the job asks for just that, does not fit, or what is in its way is known. Not where
    no step of the network asks for what the message says."""
    if case.died is not None or case.need is None or case.room_bytes is None or case.strange_request:
        return case.died is not None
    in_the_way = (case.foreign_bytes or 0) >= FOREIGN_BYTES or (case.others_bytes or 0) >= least_of_others(case)
    return not case.would_fit or in_the_way


def driver_agrees(case: Case) -> bool:
    """Whether the driver or the server tells of a card like the message's."""
    total = case.balance.total_bytes
    told = [source.total_bytes for source in (case.around.gpu, case.around.server) if source is not None]
    low, high = _SAME_CARD
    return any(total is not None and each is not None and low * each <= total <= high * each for each in told)
