"""What the dashboards show, as data: a panel is a title, what it asks Prometheus, its unit, its thresholds and its runbook.

`generate.py` makes Grafana's JSON of it. Only what gpuwatch tells today is here: a panel that stays empty teaches people to
look away. Still to come with their sources: workers by state and scaling decisions, tokens left of a budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HERE = 'instance=~"$instance"'


@dataclass(frozen=True)
class Ask:
    """One query, and how its series are called."""

    expr: str
    legend: str = "{{instance}}"


@dataclass(frozen=True)
class Panel:
    """One panel. `limits` are (value, colour) from the value on; `unit` is one of Grafana's."""

    title: str
    asks: tuple[Ask, ...]
    unit: str
    help: str
    runbook: str
    kind: Literal["stat", "lines", "table"] = "lines"
    limits: tuple[tuple[float, str], ...] = ()
    span: int = 12
    stacked: bool = False
    least: float | None = 0
    most: float | None = None


@dataclass(frozen=True)
class Board:
    """One dashboard: its rows of panels, and the variables it has besides datasource and instance."""

    name: str
    title: str
    help: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str], ...] = ()


def one(expr: str, legend: str = "{{instance}}") -> tuple[Ask, ...]:
    """A panel's only query."""
    return (Ask(expr, legend),)


BAD = ((1.0, "red"),)

NOW = Board(
    "now",
    "gpuwatch / Now",
    "What is wrong, since when, and what to do about it.",
    (
        Panel(
            "Failures that stand", one(f"sum by (instance) (gpuwatch_incident_active{{{HERE}}})"), "short",
            "Told, and neither recovered nor cleared.", "gpuwatchfailure", "stat", BAD, 6,
        ),
        Panel(
            "Failures in the last hour", one(f"sum by (instance) (increase(gpuwatch_incidents_total{{{HERE}}}[1h]))"), "short",
            "Each counted once, however many lines it printed.", "gpuwatchfailure", "stat", ((1.0, "orange"), (10.0, "red")), 6,
        ),
        Panel(
            "Jobs that wait", one(f'sum by (server) (gpuwatch_queue_jobs{{{HERE},state="pending"}})', "{{server}}"), "short",
            "In each server's queue.", "gpuwatchqueuestalled", "stat", ((10.0, "orange"), (50.0, "red")), 6,
        ),
        Panel(
            "Fullest GPU", one(f"max by (instance) (gpuwatch_gpu_memory_used_bytes{{{HERE}}} "
                               f"/ gpuwatch_gpu_memory_total_bytes{{{HERE}}})"), "percentunit",
            "Memory in use, by all processes.", "gpuwatchgpumemoryhigh", "stat", ((0.9, "orange"), (0.95, "red")), 6,
        ),
        Panel(
            "Alerts that fire", one('ALERTS{alertname=~"Gpuwatch.+",alertstate="firing"}', "{{alertname}} {{label}} {{instance}}"),
            "short", "Each has a runbook of its name.", "", "table", (), 12,
        ),
        Panel(
            "What stands", one(f"gpuwatch_incident_active{{{HERE}}} > 0", "{{label}} {{instance}}"), "short",
            "By class; `gpuwatch watch` and `gpuwatch diagnose` say why and what to do.", "gpuwatchfailure", "table", BAD, 12,
        ),
        Panel(
            "Failures by class", one(f"sum by (label) (increase(gpuwatch_incidents_total{{{HERE}}}[$__rate_interval])) > 0",
                                     "{{label}}"), "short",
            "When they came; each failure once.", "gpuwatchfailure", span=16, stacked=True,
        ),
        Panel(
            "Time since the last of a class", one(f"time() - gpuwatch_incident_last_timestamp_seconds{{{HERE}}}", "{{label}}"), "s",
            "Classes that were seen since gpuwatch began.", "gpuwatchfailure", "table", span=8,
        ),
        Panel(
            "How far gpuwatch is behind", one(f"gpuwatch_lag_seconds{{{HERE}}}"), "s",
            "Under a second where it keeps up.", "gpuwatchlagging", limits=((5.0, "orange"), (30.0, "red")), span=8,
        ),
        Panel(
            "Collectors", one(f"gpuwatch_collector_success{{{HERE}}}", "{{collector}} {{instance}}"), "bool",
            "1 delivers; 0 has nothing to give, failed or is stuck.", "gpuwatchcollectorstopped", span=8, most=1,
        ),
        Panel(
            "Records read", one(f"sum by (source, outcome) (rate(gpuwatch_log_records_total{{{HERE}}}[$__rate_interval]))",
                                "{{source}} {{outcome}}"), "short",
            "Lines per second; silence may be a log that is no longer written.", "gpuwatchsourcefailed", span=8,
        ),
    ),
)  # fmt: skip

JOBS = Board(
    "jobs",
    "gpuwatch / Jobs",
    "Who waits how long, what takes how long, and how it ends.",
    (
        Panel(
            "Queue", one(f'sum by (server, state) (gpuwatch_queue_jobs{{{HERE},server=~"$server"}})', "{{server}} {{state}}"),
            "short", "Jobs that wait and run.", "gpuwatchqueuestalled", stacked=True, span=8,
        ),
        Panel(
            "Work in the queue", one(f'gpuwatch_queue_work_seconds{{{HERE},server=~"$server"}}', "{{server}}"), "s",
            "Computed: its jobs, each as long as the server's last good ones on average.", "gpuwatchqueuewaitlong", span=8,
        ),
        Panel(
            "Time to drain", one(f'gpuwatch:queue_drain:seconds{{{HERE},server=~"$server"}}', "{{server}}"), "s",
            "At the pace of the last five minutes; nothing where nothing ended.", "gpuwatchqueuestalled",
            limits=((300.0, "orange"), (1800.0, "red")), span=8,
        ),
        Panel(
            "Wait", tuple(
                Ask(f"histogram_quantile({share}, sum by (server, le) (rate(gpuwatch_queue_wait_seconds_bucket"
                    f'{{{HERE},server=~"$server"}}[$__rate_interval])))', f"{{{{server}}}} {words}")
                for share, words in ((0.5, "half"), (0.95, "19 of 20"))
            ), "s", "How long jobs waited before they ran: half of them at most so long, and 19 of 20.",
            "gpuwatchqueuewaitlong", limits=((60.0, "orange"), (300.0, "red")),
        ),
        Panel(
            "Duration", tuple(
                Ask(f"histogram_quantile({share}, sum by (workload, le) (rate(gpuwatch_job_duration_seconds_bucket"
                    f'{{{HERE},server=~"$server",outcome="success"}}[$__rate_interval])))', f"{{{{workload}}}} {words}")
                for share, words in ((0.5, "half"), (0.95, "19 of 20"))
            ), "s", "Of jobs that ended well.", "gpuwatchqueuewaitlong",
        ),
        Panel(
            "Jobs by outcome", one("sum by (outcome) (rate(gpuwatch_job_duration_seconds_count"
                                   f'{{{HERE},server=~"$server"}}[$__rate_interval]))', "{{outcome}}"), "ops",
            "Jobs per second.", "gpuwatchfailure", stacked=True, span=8,
        ),
        Panel(
            "Share that fails", one(
                f'sum(rate(gpuwatch_job_duration_seconds_count{{{HERE},server=~"$server",outcome="error"}}[$__rate_interval])) / '
                f'(sum(rate(gpuwatch_job_duration_seconds_count{{{HERE},server=~"$server"}}[$__rate_interval])) > 0)', "failed",
            ), "percentunit", "Of the jobs that ended.", "gpuwatchoutofmemoryburst",
            limits=((0.05, "orange"), (0.2, "red")), span=8, most=1,
        ),
        Panel(
            "Slowest node types", one(
                f"topk(8, sum by (node_type) (rate(gpuwatch_node_duration_seconds_sum{{{HERE}}}[$__rate_interval])) / "
                f"(sum by (node_type) (rate(gpuwatch_node_duration_seconds_count{{{HERE}}}[$__rate_interval])) > 0))",
                "{{node_type}}",
            ), "s", "Mean seconds a run; the first sixteen types seen, the rest as other.", "gpuwatchqueuewaitlong", span=8,
        ),
    ),
    (("server", "label_values(gpuwatch_job_duration_seconds_count, server)"),),
)  # fmt: skip

GPU_HERE = HERE + ',uuid=~"$gpu"'
GPU = Board(
    "gpu",
    "gpuwatch / GPU",
    "How close the card is to its limits, and who holds it.",
    (
        Panel(
            "Memory", (Ask(f"gpuwatch_gpu_memory_used_bytes{{{GPU_HERE}}}", "{{uuid}} used"),
                       Ask(f"gpuwatch_gpu_memory_total_bytes{{{GPU_HERE}}}", "{{uuid}} all"),
                       Ask(f"max by (workload) (gpuwatch_memory_predicted_bytes{{{HERE}}})", "{{workload}} predicted")), "bytes",
            "In use, of all there is, and what the last job of each workload was said to need.", "gpuwatchgpumemoryhigh",
        ),
        Panel(
            "Memory by program", one(f"sum by (uuid, program, pid) (gpuwatch_gpu_process_memory_bytes{{{GPU_HERE}}})",
                                     "{{program}} {{pid}}"), "bytes",
            "ComfyUI and our runner by pid, everything else in one sum.", "gpuwatchgpumemoryhigh", stacked=True,
        ),
        Panel(
            "Utilization", one(f"gpuwatch_gpu_utilization_ratio{{{GPU_HERE}}}", "{{uuid}}"), "percentunit",
            "Share of the time in which a kernel ran.", "gpuwatchqueuestalled", span=8, most=1,
        ),
        Panel(
            "Temperature", one(f"gpuwatch_gpu_temperature_celsius{{{GPU_HERE}}}", "{{uuid}}"), "celsius",
            "Of the core.", "gpuwatchgpuhot", limits=((80.0, "orange"), (87.0, "red")), span=8,
        ),
        Panel(
            "Power", (Ask(f"gpuwatch_gpu_power_watts{{{GPU_HERE}}}", "{{uuid}}"),
                      Ask(f"gpuwatch_gpu_power_limit_watts{{{GPU_HERE}}}", "{{uuid}} limit")), "watt",
            "Drawn, and what may be drawn.", "gpuwatchgputhrottled", span=8,
        ),
        Panel(
            "Slowed down", one(f"sum by (uuid, reason) (gpuwatch_gpu_throttled{{{GPU_HERE}}})", "{{uuid}} {{reason}}"), "bool",
            "1 while the driver holds the clocks down for a reason.", "gpuwatchgputhrottled", span=8, most=1,
        ),
        Panel(
            "Clocks", one(f"gpuwatch_gpu_clock_hertz{{{GPU_HERE}}}", "{{uuid}} {{domain}}"), "hertz",
            "Of the processors and of the memory.", "gpuwatchgputhrottled", span=8,
        ),
        Panel(
            "Fan", one(f"gpuwatch_gpu_fan_ratio{{{GPU_HERE}}}", "{{uuid}}"), "percentunit",
            "What it is told to do, of its most.", "gpuwatchgpuhot", span=8, most=1,
        ),
        Panel(
            "PCIe traffic", one(f"gpuwatch_gpu_pcie_bytes_per_second{{{GPU_HERE}}}", "{{uuid}} {{direction}}"), "Bps",
            "Over the 20 ms that the driver looked.", "gpuwatchpcienarrow", span=8,
        ),
        Panel(
            "PCIe lanes", one(f"gpuwatch_gpu_pcie_link_width{{{GPU_HERE}}}", "{{uuid}} {{which}}"), "short",
            "Now, and the most that card and slot can do.", "gpuwatchpcienarrow", span=8,
        ),
        Panel(
            "Energy", one(f"increase(gpuwatch_gpu_energy_joules_total{{{GPU_HERE}}}[$__range])", "{{uuid}}"), "joule",
            "Used in the time that is shown.", "gpuwatchgpuhot", "stat", span=8,
        ),
        Panel(
            "Memory errors", one(f"sum by (uuid, kind) (increase(gpuwatch_gpu_ecc_errors_total{{{GPU_HERE}}}[1h]))",
                                 "{{uuid}} {{kind}}"), "short",
            "Of cards with ECC, in an hour.", "gpuwatcheccuncorrected", limits=BAD,
        ),
        Panel(
            "Xid", one(f"sum by (code) (increase(gpuwatch_xid_errors_total{{{HERE}}}[1h])) > 0", "Xid {{code}}"), "short",
            "What the driver reported in an hour, by code.", "gpuwatchxidhardware", limits=BAD,
        ),
    ),
    (("gpu", "label_values(gpuwatch_gpu_info, uuid)"),),
)  # fmt: skip

FLEET = Board(
    "fleet",
    "gpuwatch / Fleet",
    "All machines beside each other: work, failures, headroom, tokens.",
    (
        Panel(
            "Machines", one(f"gpuwatch_build_info{{{HERE}}}", "{{instance}} {{version}}"), "short",
            "Each with the version that runs there.", "gpuwatchdown", "table", span=8,
        ),
        Panel(
            "Cards", one(f"gpuwatch_gpu_info{{{HERE}}}", "{{instance}} {{index}} {{name}} {{driver}}"), "short",
            "As the drivers tell them.", "gpuwatchgpulost", "table", span=8,
        ),
        Panel(
            "Servers that answer", one(f"gpuwatch_server_up{{{HERE}}}", "{{server}}"), "bool",
            "1 answers, 0 does not.", "gpuwatchserverdown", span=8, most=1,
        ),
        Panel(
            "Servers", one(f"gpuwatch_server_info{{{HERE}}}", "{{server}} {{version}} {{device}}"), "short",
            "ComfyUI, as it tells of itself.", "gpuwatchsourcefailed", "table", span=8,
        ),
        Panel(
            "Jobs ended", one(f"sum by (instance, server) (rate(gpuwatch_job_duration_seconds_count{{{HERE}}}[$__rate_interval]))",
                              "{{instance}} {{server}}"), "ops",
            "Per second, however they ended.", "gpuwatchqueuestalled", stacked=True, span=8,
        ),
        Panel(
            "Work in all queues", one(f"sum by (instance) (gpuwatch_queue_work_seconds{{{HERE}}})"), "s",
            "GPU seconds that wait, computed.", "gpuwatchqueuewaitlong", stacked=True, span=8,
        ),
        Panel(
            "Time to drain", one(f"max by (instance) (gpuwatch:queue_drain:seconds{{{HERE}}})"), "s",
            "Of each machine's longest queue.", "gpuwatchqueuestalled", limits=((300.0, "orange"), (1800.0, "red")), span=8,
        ),
        Panel(
            "Failures by machine", one(f"sum by (instance) (increase(gpuwatch_incidents_total{{{HERE}}}[1h]))"), "short",
            "In an hour. One machine that stands out is its own problem, all of them share one.", "gpuwatchfailure", span=8,
        ),
        Panel(
            "Free GPU memory", one(f"sum by (instance) (gpuwatch_gpu_memory_total_bytes{{{HERE}}} "
                                   f"- gpuwatch_gpu_memory_used_bytes{{{HERE}}})"), "bytes",
            "Over all cards of a machine.", "gpuwatchgpumemoryhigh", span=8,
        ),
        Panel(
            "Tokens used", one(f"sum by (workload) (increase(gpuwatch_tokens_total{{{HERE}}}[1h]))", "{{workload}}"), "short",
            "Compute tokens in an hour.", "gpuwatchqueuewaitlong", span=8,
        ),
        Panel(
            "Host memory left", one(f"gpuwatch_host_memory_available_bytes{{{HERE}}} / gpuwatch_host_memory_total_bytes{{{HERE}}}"),
            "percentunit", "That programs can still have.", "gpuwatchhostmemorylow", span=8, most=1,
        ),
        Panel(
            "Host processors", one(f"gpuwatch_host_cpu_ratio{{{HERE}}}"), "percentunit",
            "Share of all of them that is busy.", "gpuwatchlagging", span=8, most=1,
        ),
    ),
)  # fmt: skip

RATIO = "gpuwatch_memory_measured_to_predicted_ratio"
MODEL_MEMORY = Board(
    "model-memory",
    "gpuwatch / Model memory",
    "What jobs were said to need, and what they held.",
    (
        Panel(
            "Predicted and measured", (Ask(f"gpuwatch_memory_predicted_bytes{{{HERE}}}", "{{workload}} predicted"),
                                       Ask(f"gpuwatch_job_peak_memory_bytes{{{HERE}}}", "{{workload}} measured")), "bytes",
            "Of the last job: the high end of the prediction, and the most that the process held on the card.",
            "gpuwatchpredictionlow",
        ),
        Panel(
            "Measured over predicted", tuple(
                Ask(f"histogram_quantile({share}, sum by (workload, le) (increase({RATIO}_bucket{{{HERE}}}[1d])))",
                    f"{{{{workload}}}} {words}")
                for share, words in ((0.5, "half"), (0.95, "19 of 20"))
            ), "percentunit", "Of a day's jobs; above 100 % a job needed more than it was said to.", "gpuwatchpredictionlow",
            limits=((1.0, "red"),),
        ),
        Panel(
            "Jobs above their prediction", one(
                f'1 - sum by (workload) (increase({RATIO}_bucket{{{HERE},le="1.0"}}[1d])) / '
                f"(sum by (workload) (increase({RATIO}_count{{{HERE}}}[1d])) > 0)", "{{workload}}",
            ), "percentunit", "Share of a day's jobs.", "gpuwatchpredictionlow", "stat", ((0.01, "orange"), (0.1, "red")), 8,
        ),
        Panel(
            "Out of memory", one(
                f'sum by (label) (increase(gpuwatch_incidents_total{{{HERE},label=~".*oom.*|cublas_alloc_failed"}}[1h])) > 0',
                "{{label}}",
            ), "short", "Failures in an hour.", "gpuwatchoutofmemoryburst", limits=BAD, span=8,
        ),
        Panel(
            "Fixes", one(f"sum by (action, outcome) (increase(gpuwatch_fixes_total{{{HERE}}}[1d])) > 0", "{{action}} {{outcome}}"),
            "short", "In a day: applied, then held or failed.", "gpuwatchoutofmemoryburst", "table", span=8,
        ),
        Panel(
            "What servers say of their card", one(f"gpuwatch_server_device_memory_bytes{{{HERE}}}", "{{server}} {{which}}"),
            "bytes", "Free and all, as ComfyUI last told.", "gpuwatchgpumemoryhigh", span=12,
        ),
        Panel(
            "Headroom", one(f"min by (instance) (gpuwatch_gpu_memory_total_bytes{{{HERE}}}) - on (instance) "
                            f"group_right () max by (instance, workload) (gpuwatch_memory_predicted_bytes{{{HERE}}})",
                            "{{instance}} {{workload}}"), "bytes",
            "The smallest card of a machine, less what the last job was said to need.", "gpuwatchpredictionlow",
            span=12, least=None,
        ),
    ),
)  # fmt: skip

BOARDS = (NOW, JOBS, GPU, FLEET, MODEL_MEMORY)
