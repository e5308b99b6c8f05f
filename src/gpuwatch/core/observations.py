"""What happened on the box, as values: the only input of the engine.

Sources make them, recordings keep them, tests write them by hand. Times are aware UTC; what the hardware did not say is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from gpuwatch.core.learned.jobs import Ran
from gpuwatch.core.matching.scan import Scan
from gpuwatch.texts import Text

SourceKind = Literal[
    "file", "stdin", "cmd", "comfyui", "kernel", "nvml", "drm", "host", "runner", "replay", "journal", "docker"
]
GpuVendor = Literal["nvidia", "amd", "intel"]
JobOutcome = Literal["success", "error", "interrupted"]
FixOutcome = Literal["applied", "held", "failed"]
Program = Literal["comfyui", "runner", "other"]
"""What a process on the card is to us."""
ThrottleReason = Literal[
    "power_cap", "thermal_software", "thermal_hardware", "slowdown_hardware", "power_brake", "sync_boost",
    "clocks_setting", "display_clocks",
]  # fmt: skip
"""Why the driver holds the clocks down: a closed set, because it is also a metric's label. An idle card is not held down."""


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Bytes of one log as they were read; cut anywhere, also inside a line or a character."""

    at: datetime
    source: str
    """Which log: its name on screen. Lines of one source are numbered together."""
    data: bytes
    kind: SourceKind = "file"
    fresh: bool = True
    """False for what was in the file before we came: shown and diagnosed, never counted."""
    scan: Scan | None = field(default=None, compare=False)
    """In the place of `data`, which are empty then: whole lines, and what the matcher found when it looked at them ahead."""
    place: str | None = field(default=None, compare=False)
    """Where its source goes on after these bytes, in the source's own words, so that the next run can."""


@dataclass(frozen=True, slots=True)
class LogRestarted:
    """The log was truncated, replaced or ended: its half line is a line, and line numbers begin again."""

    at: datetime
    source: str


@dataclass(frozen=True, slots=True)
class LogResumed:
    """The log is read on from where an earlier run stopped: lines are numbered as they would have been."""

    at: datetime
    source: str
    kind: SourceKind
    line: int
    """The lines before."""
    epoch: int
    """How often the log had begun anew."""


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds memory on a GPU."""

    pid: int
    name: str | None
    used_bytes: int | None
    program: Program = "other"


@dataclass(frozen=True, slots=True)
class GpuSample:
    """What the driver says of one GPU at one moment."""

    at: datetime
    uuid: str
    index: int
    name: str
    driver: str | None = None
    total_bytes: int | None = None
    used_bytes: int | None = None
    """Held by every process and by the driver itself; not PyTorch's own count."""
    utilization_ratio: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    processes: tuple[GpuProcess, ...] = ()
    energy_joules: float | None = None
    """Used since the driver was loaded."""
    sm_clock_hertz: int | None = None
    memory_clock_hertz: int | None = None
    fan_ratio: float | None = None
    """What the fan is told to do, of its most; not its speed."""
    throttled: tuple[ThrottleReason, ...] | None = None
    """Why the clocks are held down; empty where they are not, None where the driver does not tell."""
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    """Memory errors since the driver was loaded, of a card whose ECC is on."""
    pcie_receive_bytes_per_second: int | None = None
    pcie_transmit_bytes_per_second: int | None = None
    """Over the 20 ms that the driver looks."""
    pcie_link_generation: int | None = None
    pcie_link_width: int | None = None
    pcie_most_generation: int | None = None
    pcie_most_width: int | None = None
    """What card and slot can do together; an idle card's link is slower."""
    took_seconds: float | None = field(default=None, compare=False)
    """How long the driver took to tell all this."""
    vendor: GpuVendor = "nvidia"


@dataclass(frozen=True, slots=True)
class HostSample:
    """What the operating system says of the machine's memory and processors."""

    at: datetime
    memory_total_bytes: int
    memory_available_bytes: int
    swap_used_bytes: int
    cpu_ratio: float | None = None
    took_seconds: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class QueueState:
    """A server's queue."""

    at: datetime
    server: str
    pending: int
    running: int


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """What a ComfyUI server says of itself and of its device."""

    at: datetime
    server: str
    version: str | None = None
    argv: tuple[str, ...] = ()
    device: str | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    """What the server can still have, idle memory of its own PyTorch included."""
    torch_idle_bytes: int | None = None
    """Of that, what PyTorch holds idle."""
    local: bool | None = None
    """Whether it runs on this machine, so that this machine's cards and memory are its own; None where that is not known."""
    visible_devices: str | None = None
    """Its CUDA_VISIBLE_DEVICES; empty where it sees all, None where that is not known."""
    by_bus: bool = False
    """Whether it counts cards as the driver does (CUDA_DEVICE_ORDER=PCI_BUS_ID); else the fastest is first."""
    restarts: int = 0
    """How often another process was seen to answer in its place since it is watched."""


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A prompt that is over, as the server's history tells it."""

    at: datetime
    server: str
    job_id: str
    outcome: JobOutcome
    node_id: str | None = None
    node_type: str | None = None
    exception_type: str | None = None
    exception_message: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """The failed node's inputs: numbers and strings only."""
    duration_seconds: float | None = None
    waited_seconds: float | None = None
    """In the queue, before it ran."""
    workload: str | None = None
    """The id of the workload profile that its nodes mean; None for any other workflow."""
    node_seconds: Mapping[str, float] = field(default_factory=dict)
    """Seconds spent in nodes, by node type, where that was watched."""
    ran: Ran | None = None
    """Which kind of job it was and how large, where its workflow tells."""
    tokens_per_image: int | None = None
    """Compute tokens of a pass over one photo, where its workload counts them and its workflow tells the size."""
    fresh: bool = True
    """False for what had ended before we came: it explains, and is not counted."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The node of a running prompt, and how far it is; only where the server tells it to others than the submitter."""

    at: datetime
    server: str
    job_id: str
    node_id: str
    value: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class FixTried:
    """A fix was applied, or it has become known whether it held."""

    at: datetime
    incident_id: str
    action: str
    """The planner's name, one of `rules.ACTIONS`."""
    outcome: FixOutcome
    server: str | None = None
    """Where it was tried; with the node's type and values it is remembered there."""
    node_type: str | None = None
    before: Mapping[str, Any] = field(default_factory=dict)
    """The values of the failed node that its memory depends on."""
    after: Mapping[str, Any] = field(default_factory=dict)
    """The values that the fix set."""
    job_id: str | None = None
    """The prompt that was queued with it."""
    failed_job_id: str | None = None
    """The job that failed first: another gpuwatch knows the incident by it."""
    kept: bool = False
    """Whether the journal has it already: another gpuwatch told it there."""


@dataclass(frozen=True, slots=True)
class JournalSeen:
    """How the journal does; counts are those of this gpuwatch since its start."""

    at: datetime
    size_bytes: int
    rows_written: int = 0
    write_errors: int = 0
    oldest_at: datetime | None = None
    kept: bool = True
    """Whether this gpuwatch is the one that keeps it; beside another it adds only what it tries."""


@dataclass(frozen=True, slots=True)
class RunEvent:
    """A word from our own runner: its event as it came, a mapping with an `event` key."""

    at: datetime
    event: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SourceUp:
    """A source began to deliver."""

    at: datetime
    source: str
    kind: SourceKind
    note: Text | None = None
    """What it cannot give, though it delivers."""


@dataclass(frozen=True, slots=True)
class SourceDown:
    """A source stopped or has nothing to give; the others carry on."""

    at: datetime
    source: str
    kind: SourceKind
    reason: Text
    failed: bool = False
    """True where that is an error, False where it simply ended or the machine has no such thing."""


@dataclass(frozen=True, slots=True)
class LogGap:
    """A log goes on, and something between was missed: its writer keeps only so much and was read too late."""

    at: datetime
    source: str
    kind: SourceKind


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed and nothing else happened."""

    at: datetime


Told = (
    GpuSample
    | HostSample
    | QueueState
    | ServerSeen
    | JobEnded
    | JobProgress
    | FixTried
    | JournalSeen
    | RunEvent
    | SourceUp
    | SourceDown
    | LogGap
    | Tick
)
"""What is news as it stands; a log is news only once it was read."""
Observation = LogChunk | LogRestarted | LogResumed | Told
