"""The boards about the work: what is wrong now, the jobs, all machines beside each other."""

from __future__ import annotations

from panels import BAD, HERE, Ask, Board, Panel, one

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
            "Slowest rules", one(f"topk(8, sum by (rule) (rate(gpuwatch_rule_seconds_total{{{HERE}}}[$__rate_interval])))",
                                 "{{rule}}"), "percentunit",
            "Share of a processor that a rule's patterns take; one that is too slow is set aside.", "gpuwatchlagging", span=8,
        ),
        Panel(
            "Log missed", one(f"sum by (source) (increase(gpuwatch_log_gaps_total{{{HERE}}}[1h]))", "{{source}}"), "short",
            "Times in an hour that a log went on after something was missed.", "gpuwatchsourcefailed", limits=BAD, span=8,
        ),
        Panel(
            "Pushes", one(f"sum by (to, outcome) (rate(gpuwatch_pushes_total{{{HERE}}}[$__rate_interval]))", "{{to}} {{outcome}}"),
            "ops", "Pages written for node_exporter and pushed over OTLP.", "gpuwatchpushfails", span=8,
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
