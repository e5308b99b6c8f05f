"""What a server tells of the nodes that run: the newest for the screen, told seldom, and how long each took.

Only prompts without a client id are told to others than their submitter; of the rest nothing is known. Times are those at
which frames came, so a node that ran before we listened has none.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gpuwatch.adapters.comfyui.reading import progress_of, words_of
from gpuwatch.core.observations import JobProgress

_TOLD_EVERY_SECONDS = 0.25
_MOST_JOBS = 16
_MOST_NODES = 2000
_LONGEST_TYPE = 120


@dataclass(slots=True)
class _Job:
    """One job's nodes, by id."""

    began: dict[str, float | None] = field(default_factory=dict)
    """None for a node that ran when we came: how long is not known."""
    seconds: dict[str, tuple[float, str]] = field(default_factory=dict)
    """With the id that the node has in the prompt."""


class Progress:
    """The nodes of one server."""

    def __init__(self, server: str, clock: Callable[[], datetime], ticks: Callable[[], float] = time.monotonic) -> None:
        self._server, self._clock, self._ticks = server, clock, ticks
        self._jobs: OrderedDict[str, _Job] = OrderedDict()
        self._unsure = True
        self._told: tuple[float, JobProgress] | None = None

    @property
    def told(self) -> bool:
        """Whether a node was told of that has not been said to be over."""
        return self._told is not None

    def listening(self, *, busy: bool) -> None:
        """We hear from now on; what ran before, where the server was `busy`, began at a time that is not known."""
        self._unsure = busy
        self._jobs.clear()

    def idle(self) -> None:
        """Nothing runs."""
        self._told = None
        self._unsure = False

    def hear(self, data: Any) -> JobProgress | None:
        """Take a frame; what is to be told of it."""
        now = self._ticks()
        self._time(data, now)
        progress = progress_of(data, self._clock(), self._server)
        if progress is None:
            return None
        if self._told is not None:
            at, before = self._told
            same = (before.job_id, before.node_id) == (progress.job_id, progress.node_id)
            if same and now - at < _TOLD_EVERY_SECONDS:
                return None
        self._told = now, progress
        return progress

    def seconds_of(self, job_id: str, prompt: Mapping[str, Any]) -> Mapping[str, float]:
        """The seconds that an ended job spent in nodes, by their type, as far as both are known; asked for once."""
        job = self._jobs.pop(job_id, None)
        spent: dict[str, float] = {}
        for name, (seconds, real_name) in job.seconds.items() if job is not None else ():
            node = prompt.get(name, prompt.get(real_name))
            kind = words_of(node.get("class_type"), _LONGEST_TYPE) if isinstance(node, dict) else None
            if kind is not None:
                spent[kind] = spent.get(kind, 0.0) + seconds
        return spent

    def _time(self, data: Any, now: float) -> None:
        nodes = data.get("nodes") if isinstance(data, dict) else None
        job_id = words_of(data.get("prompt_id")) if isinstance(nodes, dict) else None
        if not isinstance(nodes, dict) or job_id is None:
            return
        job = self._jobs.setdefault(job_id, _Job())
        if len(self._jobs) > _MOST_JOBS:
            self._jobs.popitem(last=False)
        for name, state in nodes.items():
            if not isinstance(state, dict) or not isinstance(name, str) or len(job.began) >= _MOST_NODES:
                continue
            if state.get("state") == "running" and name not in job.began:
                job.began[name] = None if self._unsure else now
            elif state.get("state") == "finished" and name not in job.seconds:
                began = job.began.get(name)
                if began is not None:
                    job.seconds[name] = now - began, words_of(state.get("real_node_id")) or name
        self._unsure = False
