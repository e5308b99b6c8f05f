"""Which workload a job was, and which node failed, as far as the known workloads tell."""

from __future__ import annotations

from dataclasses import replace

from gpuwatch.core.incidents import Incident
from gpuwatch.core.observations import JobEnded
from gpuwatch.core.workloads import Workloads


def named_job(job: JobEnded, workloads: Workloads) -> JobEnded:
    """The job with the workload that its failed node means, or one of the nodes that worked, and its compute tokens."""
    if job.workload is not None:
        return job
    kinds = (job.node_type, *(job.ran.kind.nodes if job.ran is not None else ()))
    profile = next((found for kind in kinds if kind and (found := workloads.find(kind, None))), None)
    if profile is None:
        return job
    sized = job.ran.sized if job.ran is not None else None
    sizes = sized.sizes if sized is not None and sized.type in profile.node_types else {}
    own = job.inputs if job.node_type in profile.node_types else {}
    return replace(job, workload=profile.id, tokens_per_image=profile.tokens_per_image({**sizes, **own}))


def named_node(incident: Incident, workloads: Workloads) -> Incident:
    """The incident with its node named by its workload, where only the folder that its traceback ran through is known."""
    if incident.node.type is not None:
        return incident
    profile = workloads.find(None, incident.node.pack)
    if profile is None:
        return incident
    return replace(incident, node=replace(incident.node, type=profile.node_types[0]))
