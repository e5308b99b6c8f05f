"""One failure and everything that a diagnosis may ask about it: the incident, the card's account, the job and its need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gpuwatch.core.balance import Balance, balance_of
from gpuwatch.core.incidents import Frame, Incident
from gpuwatch.core.memory.inverse import Answer, Candidate, candidates_of
from gpuwatch.core.observations import GpuSample, JobEnded, ServerSeen
from gpuwatch.core.workload import JobShape, Need, WorkloadProfile, Workloads, fits, predict, shape_from_inputs
from gpuwatch.texts import Text, text


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was known besides the log when the incident was diagnosed."""

    workloads: Workloads = field(default_factory=Workloads)
    gpu_total_bytes: int | None = None
    """Told by the person on the command line."""
    gpu: GpuSample | None = None
    """The driver's word on the card, nearest to the failure."""
    server: ServerSeen | None = None
    job: JobEnded | None = None
    known_total_bytes: int | None = None
    """The card's size as an earlier failure of the same log told it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One failure with everything a planner may ask."""

    incident: Incident
    around: Surroundings
    balance: Balance
    profile: WorkloadProfile | None
    shape: JobShape | None
    need: Need | None
    room_bytes: float | None
    answer: Answer = field(default_factory=Answer)
    """The jobs that the message's numbers agree with."""

    @property
    def died(self) -> Candidate | None:
        """Where in the network it died, where the numbers agree with the job that it is known to be."""
        if self.shape is None or self.shape.side_px is None:
            return None
        known = (self.shape.variant, self.shape.side_px)
        return next((c for c in self.answer.candidates if (c.job.variant, c.job.side_px) == known), None)

    @property
    def foreign_bytes(self) -> int | None:
        """What the process holds beyond this job's own need: other models, another node's copy."""
        if self.need is None or self.balance.allocated_bytes is None:
            return None
        if self.died is not None:
            return self.died.other_bytes
        return max(self.balance.allocated_bytes - self.need.live_bytes, 0)

    @property
    def would_fit(self) -> bool:
        """Whether the job as it was would fit if what is in its way were gone."""
        return self.need is not None and self.room_bytes is not None and fits(self.need, self.room_bytes) == "yes"


def case_of(incident: Incident, around: Surroundings) -> Case:
    """Put together what is known of the card, the job and its need."""
    balance = balance_of(incident.facts)
    if around.gpu_total_bytes is not None:
        balance = (
            Balance(total_bytes=around.gpu_total_bytes, tried_bytes=balance.tried_bytes, total_from="command line")
            if (balance.total_bytes is not None and balance.total_bytes != around.gpu_total_bytes)
            else balance.with_total(around.gpu_total_bytes, "command line")
        )
    if around.gpu is not None:
        balance = balance.with_total(around.gpu.total_bytes, "driver")
    if around.server is not None:
        balance = balance.with_total(around.server.total_bytes, "server")
    balance = balance.with_total(around.known_total_bytes, "earlier failure")
    profile = around.workloads.find(incident.node.type, incident.node.pack)
    answer = answer_of(profile, incident, balance) if profile else Answer()
    shape = shape_of(profile, incident, answer) if profile else None
    need = None
    if profile and shape and shape.side_px and shape.variant and profile.valid_px(shape.side_px):
        need = predict(profile, shape.variant, shape.side_px, context_bytes=told_context(profile, balance))
    context = profile.context_bytes.high if profile else 0.6 * (1 << 30)
    return Case(incident, around, balance, profile, shape, need, balance.room_bytes(context), answer)


def told_context(profile: WorkloadProfile, balance: Balance) -> float | None:
    """What the process holds outside PyTorch, as far as the message tells: exactly, or at most what is nobody else's."""
    if balance.context_bytes is not None:
        return balance.context_bytes
    room = balance.room_bytes(0)
    if balance.told_room and room is not None and balance.total_bytes is not None:
        return max(min(profile.context_bytes.high, balance.total_bytes - room), 0)
    return None


def shape_of(profile: WorkloadProfile, incident: Incident, answer: Answer) -> JobShape:
    """Which job it was: the failed node's own inputs first, the message's numbers turned round second."""
    told = shape_from_inputs(profile, incident.node.inputs)
    if told is not None:
        return told
    if answer.job is not None:
        return JobShape(profile, answer.job.variant, answer.job.side_px, "numbers")
    if answer.side_px is not None and not any(candidate.other_bytes for candidate in answer.candidates):
        return JobShape(profile, None, answer.side_px, "numbers")
    return JobShape(profile)


def answer_of(profile: WorkloadProfile, incident: Incident, balance: Balance) -> Answer:
    """The jobs that the message's numbers agree with, of what the node can run: float32, one image, no rewrite.

    The traceback's innermost frame in the network keeps the answer to that part of it; inputs that name the size, to that.
    """
    if not balance.tried_bytes:
        return Answer()
    told = shape_from_inputs(profile, incident.node.inputs)
    variants = [told.variant] if told and told.variant else list(profile.variants)
    found = {
        (name, "fp32", "none"): profile.traces.find(name, "fp32", "none", grad=False, many=False) for name in variants
    }
    return candidates_of(
        {name: trace for name, trace in found.items() if trace is not None},
        balance.tried_bytes,
        balance.allocated_bytes,
        places=part_of(profile, incident.frames),
        sides_px=[told.side_px] if told and told.side_px else profile.sizes_px(),
    )


def part_of(profile: WorkloadProfile, frames: Sequence[Frame]) -> tuple[str, ...]:
    """The part of the network that the traceback's innermost frame in it is; nothing where no frame is."""
    names = (frame.file.replace("\\", "/").rpartition("/")[2] for frame in reversed(frames))
    return next((profile.places[name] for name in names if name in profile.places), ())


def node_name(case: Case) -> Text | str:
    """What to call the failed node: its type, else the workload, else the pack that the traceback ran through."""
    node = case.incident.node
    return node.type or node.pack or text("The job")
