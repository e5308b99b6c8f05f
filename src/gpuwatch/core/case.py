"""One failure and everything that a diagnosis may ask about it: the incident, the card's account, the job and its need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from gpuwatch.core.balance import USUAL_CONTEXT_BYTES, Balance, balance_of
from gpuwatch.core.incidents import Frame, Incident
from gpuwatch.core.learned.jobs import Ran
from gpuwatch.core.learned.runs import Experience, Learned
from gpuwatch.core.loop.tried import Tried
from gpuwatch.core.memory.band import Band
from gpuwatch.core.memory.inverse import Answer, Candidate, candidates_of, tells
from gpuwatch.core.memory.simulate import Size
from gpuwatch.core.observations import GpuSample, HostSample, JobEnded, ServerSeen
from gpuwatch.core.workload import JobShape, Need, WorkloadProfile, fits, predict, shape_from_inputs
from gpuwatch.core.workloads import Workloads
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
    host: HostSample | None = None
    """The machine's own memory, nearest to the failure."""
    tried: Tried = field(default_factory=Tried)
    """What became of fixes that were tried before."""
    learned: Learned = field(default_factory=Learned)
    """What jobs took here."""


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
    def ran(self) -> Ran | None:
        """Which kind of job it was and how large, where the server told of it."""
        return self.around.job.ran if self.around.job is not None else None

    @property
    def experience(self) -> Experience | None:
        """What jobs of this kind took here, where a curve goes through them."""
        known = self.around.learned.experience(self.ran)
        return known if known is not None and known.curve is not None else None

    @property
    def measured_need(self) -> Band | None:
        """What the whole process takes for this job, by those that ran here."""
        known = self.experience
        return known.need(self.ran.pixels) if known is not None and self.ran is not None else None

    @property
    def measured_room_bytes(self) -> int | None:
        """What the process could have, counted as the runs here were: without others' part where they could tell it apart."""
        known, total = self.experience, self.balance.total_bytes
        if known is None or total is None:
            return None
        return total - (self.balance.others_bytes or 0) if known.alone else total

    @property
    def died(self) -> Candidate | None:
        """Where in the network it died, where the numbers agree with the job that it is known to be."""
        if self.shape is None or self.shape.side_px is None:
            return None
        known = (self.shape.variant, self.shape.side_px)
        return next((c for c in self.answer.candidates if (c.job.variant, c.job.side_px) == known), None)

    @property
    def strange_request(self) -> bool:
        """Whether the job is known, and no step of its network asks for what was asked for."""
        tried = self.balance.tried_bytes
        named = self.shape is not None and self.shape.known_from == "inputs" and self.need is not None
        return named and tried is not None and tells(tried) and self.died is None

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
        """Whether the job as it was would fit if what is in its way in this process were gone."""
        return self.need is not None and self.room_bytes is not None and fits(self.need, self.room_bytes) == "yes"

    @property
    def whole_card_bytes(self) -> float | None:
        """What PyTorch could have if nobody else used the card."""
        total = self.balance.total_bytes
        context = self.need.context_bytes.high if self.need else USUAL_CONTEXT_BYTES
        return None if total is None else total - context

    @property
    def would_fit_alone(self) -> bool:
        """Whether the job would fit with the whole card to itself."""
        whole = self.whole_card_bytes
        return self.need is not None and whole is not None and fits(self.need, whole) == "yes"

    @property
    def others_bytes(self) -> int | None:
        """What other programs hold on the card, as far as that can be told: outright, or what is left when PyTorch's part and
        a usual context are taken off. None under cudaMallocAsync, where what is left can be PyTorch's own pool."""
        if self.balance.others_bytes is not None:
            return self.balance.others_bytes
        if self.allocator != "native" or self.balance.outside_bytes is None:
            return None
        return max(self.balance.outside_bytes - USUAL_CONTEXT_BYTES, 0)

    @property
    def allocator(self) -> Literal["native", "async"] | None:
        """Whose memory it is, by the words of the message; else by the server's device and flags; None where nothing tells."""
        words = self.incident.text
        if "would exceed allowed memory" in words or self.incident.rule.id.startswith("cuda-oom-async"):
            return "async"
        if self.balance.reserved_bytes is not None:
            return "native"
        server = self.around.server
        if server is None or server.device is None:
            return None
        if "cudaMallocAsync" in server.device:
            return "async"
        return "native" if ": native" in server.device else None

    @property
    def on_windows(self) -> bool:
        """Whether the traceback's paths are Windows' own."""
        return any(frame.file[1:3] == ":\\" for frame in self.incident.frames)

    @property
    def server(self) -> str:
        """The server that it happened on; the log's name, where none is known."""
        return self.around.server.server if self.around.server else self.incident.source

    def failed_here(self, action: str) -> bool:
        """Whether this was tried on this server and node, and did not hold."""
        scene = (self.server, self.incident.node.type, action)
        tried = [
            each
            for each in self.around.tried.attempts
            if (each.scene.server, each.scene.node_type, each.action) == scene
        ]
        return bool(tried) and tried[-1].outcome == "failed"

    def said(self, words: str) -> bool:
        """Whether a line of the failure, or a flag of the server, holds these words."""
        flags = self.around.server.argv if self.around.server else ()
        lines = (self.incident.text, *self.incident.excerpt, *self.incident.before, *flags)
        return any(words in line for line in lines)


def case_of(incident: Incident, around: Surroundings) -> Case:
    """Put together what is known of the card, the job and its need."""
    balance = balance_of(incident.facts)
    if around.gpu_total_bytes is not None:
        balance = (
            Balance(total_bytes=around.gpu_total_bytes, tried_bytes=balance.tried_bytes)
            if (balance.total_bytes is not None and balance.total_bytes != around.gpu_total_bytes)
            else balance.with_total(around.gpu_total_bytes)
        )
    if around.gpu is not None:
        balance = balance.with_total(around.gpu.total_bytes).with_others(held_by_others(around.gpu))
    if around.server is not None:
        balance = balance.with_total(around.server.total_bytes)
    balance = balance.with_total(around.known_total_bytes)
    profile = around.workloads.find(incident.node.type, incident.node.pack)
    profile = profile.with_inputs(incident.node.inputs) if profile else None
    answer = answer_of(profile, incident, balance) if profile else Answer()
    shape = shape_of(profile, incident, answer) if profile else None
    need = need_of_shape(shape, balance)
    if need is not None and shape is not None and balance.total_bytes is not None:
        smaller = in_the_smaller_form(shape, need, balance, incident)
        if smaller is not None:
            shape, need = smaller
            profile = shape.profile
    context = profile.context_bytes.high if profile else USUAL_CONTEXT_BYTES
    return Case(incident, around, balance, profile, shape, need, balance.room_bytes(context), answer)


def held_by_others(gpu: GpuSample) -> int | None:
    """What processes hold that are neither ComfyUI nor the runner, as the driver tells it; None where it names nobody."""
    known = [p for p in gpu.processes if p.used_bytes is not None]
    if not known or all(p.program == "other" for p in known):
        return None
    return sum(p.used_bytes or 0 for p in known if p.program == "other")


def need_of_shape(shape: JobShape | None, balance: Balance) -> Need | None:
    """What the job needs, where its network and size are known and it can run at all."""
    if shape is None or not shape.side_px or not shape.variant:
        return None
    profile = shape.profile
    if profile.invalid(Size(shape.side_px, shape.side_px)) is not None:
        return None
    return predict(profile, shape.variant, shape.side_px, context_bytes=told_context(profile, balance))


def in_the_smaller_form(
    shape: JobShape, need: Need, balance: Balance, incident: Incident
) -> tuple[JobShape, Need] | None:
    """The job in the precision that its node then picked by itself, where one image did not fit the whole card otherwise."""
    profile = shape.profile
    forms = profile.dtype_input.of(incident.node.inputs) if profile.dtype_input else ()
    if len(forms) < 2 or balance.total_bytes is None or fits(need, balance.total_bytes) == "yes":
        return None
    smaller = replace(shape, profile=replace(profile, dtype=forms[-1]))
    other = need_of_shape(smaller, balance)
    return None if other is None else (smaller, other)


def told_context(profile: WorkloadProfile, balance: Balance) -> float | None:
    """What the process holds outside PyTorch, as far as the message tells: exactly, or at most what is nobody else's."""
    if balance.context_bytes is not None:
        return balance.context_bytes
    room = balance.room_bytes(0)
    if balance.told_room and room is not None and balance.total_bytes is not None:
        return max(min(profile.context_bytes.high, balance.total_bytes - room - (balance.others_bytes or 0)), 0)
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
    """The jobs that the message's numbers agree with, of what the node runs: its precision and rewrite, one image.

    The traceback's innermost frame in the network keeps the answer to that part of it; inputs that name the size, to that.
    """
    if not balance.tried_bytes:
        return Answer()
    told = shape_from_inputs(profile, incident.node.inputs)
    variants = [told.variant] if told and told.variant else list(profile.variants)
    found = {
        (name, profile.dtype, profile.rewrite): profile.traces.find(
            name, profile.same_dtype.get(profile.dtype, profile.dtype), profile.rewrite, grad=False, many=False
        )
        for name in variants
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
