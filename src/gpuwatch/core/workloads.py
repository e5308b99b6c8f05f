"""The workload profiles that are known: which of them a failed node means. What a profile says stands in `workload`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the models of memory come with the first profile
    from gpuwatch.core.workload import Claim, WorkloadProfile

Profiles = tuple[tuple["WorkloadProfile", ...], tuple["Claim", ...]]
"""Those that are traced, and those of which only words are known."""


class Workloads:
    """The profiles, read when one is first asked for: a log without a failure needs none."""

    def __init__(self, read: Callable[[], Profiles] = lambda: ((), ())) -> None:
        self._read = read

    @cached_property
    def _known(self) -> Profiles:
        return self._read()

    @property
    def profiles(self) -> tuple[WorkloadProfile, ...]:
        """Those that are traced."""
        return self._known[0]

    @property
    def claimed(self) -> tuple[Claim, ...]:
        """Those of which only words are known."""
        return self._known[1]

    def find(self, node_type: str | None, pack: str | None) -> WorkloadProfile | None:
        """The workload that a node type or a custom_nodes folder means."""
        for profile in self.profiles if node_type or pack else ():
            if (node_type in profile.node_types) if node_type else (pack in profile.packs):
                return profile
        return None

    @property
    def ids(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(profile.id for profile in self.profiles)

    def named(self, workload: str) -> WorkloadProfile | None:
        """The workload of that id."""
        return next((profile for profile in self.profiles if profile.id == workload), None)

    def __iter__(self) -> Iterator[WorkloadProfile]:
        return iter(self.profiles)
