"""The shipped workload profiles, for who may never need one: what reads the files is loaded with the first."""

from __future__ import annotations

from functools import cache

from gpuwatch.core.workloads import Profiles, Workloads


@cache
def load_workloads() -> Workloads:
    """The shipped workload profiles. The first that is asked of them raises UsageError where their files are broken."""
    return Workloads(_read)


def _read() -> Profiles:
    from gpuwatch.adapters.workload_files import read_workloads  # noqa: PLC0415 - it brings YAML and the models of memory

    return read_workloads()
