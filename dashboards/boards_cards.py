"""The boards about the cards: how close each is to its limits, and how memory was predicted."""

from __future__ import annotations

from panels import BAD, HERE, Ask, Board, Panel, one

GPU_HERE = HERE + ',uuid=~"$gpu"'


def each_gpu(metric: str, legend: str = "") -> tuple[Ask, ...]:
    """The value of every card that is chosen, called by its uuid and what else tells its series apart."""
    return one(f"gpuwatch_gpu_{metric}{{{GPU_HERE}}}", f"{{{{uuid}}}} {legend}".rstrip())


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
            "Utilization", each_gpu("utilization_ratio"), "percentunit",
            "Share of the time in which a kernel ran.", "gpuwatchqueuestalled", span=8, most=1,
        ),
        Panel(
            "Temperature", each_gpu("temperature_celsius"), "celsius",
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
            "Clocks", each_gpu("clock_hertz", "{{domain}}"), "hertz",
            "Of the processors and of the memory.", "gpuwatchgputhrottled", span=8,
        ),
        Panel(
            "Fan", each_gpu("fan_ratio"), "percentunit",
            "What it is told to do, of its most.", "gpuwatchgpuhot", span=8, most=1,
        ),
        Panel(
            "PCIe traffic", each_gpu("pcie_bytes_per_second", "{{direction}}"), "Bps",
            "Over the 20 ms that the driver looked.", "gpuwatchpcienarrow", span=8,
        ),
        Panel(
            "PCIe lanes", each_gpu("pcie_link_width", "{{which}}"), "short",
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
