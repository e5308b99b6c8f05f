"""Makes Grafana's dashboards out of the boards beside it: `python dashboards/generate.py` writes `grafana/*.json` anew.

Made with grafana-foundation-sdk, offline. No Grafana has drawn them here; what is proven is that every query gives numbers,
that every metric exists, and that the JSON is what the SDK's types allow. No datasource is fixed: a variable asks for one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

sys.path.insert(0, str(Path(__file__).parent))
from boards_cards import GPU, MODEL_MEMORY
from boards_work import FLEET, JOBS, NOW
from panels import Board, Panel

BOARDS = (NOW, JOBS, GPU, FLEET, MODEL_MEMORY)
FOLDER = Path(__file__).parent / "grafana"
RUNBOOKS = "https://gpuwatch.example/runbooks.md"
DATASOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
INSTANCES = "label_values(gpuwatch_build_info, instance)"
FAILURES = (
    'sum by (label, instance) (increase(gpuwatch_incidents_total{instance=~"$instance",severity=~"error|critical"}'
    "[$__rate_interval])) > 0"
)
HEIGHTS: Mapping[str, int] = {"stat": 5, "lines": 8, "table": 8}


def main() -> None:
    """Write every dashboard."""
    for name, content in boards().items():
        (FOLDER / name).write_text(content, "utf-8")


def boards() -> dict[str, str]:
    """The files: name and content."""
    return {f"gpuwatch-{board.name}.json": text_of(board) for board in BOARDS}


def text_of(board: Board) -> str:
    """One dashboard as Grafana reads it."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(f"gpuwatch-{board.name}")
        .description(board.help)
        .tags(["gpuwatch"])
        .timezone("browser")
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(variable("instance", INSTANCES))
        .annotation(
            dashboard.AnnotationQuery()
            .name("Failures")
            .datasource(DATASOURCE)
            .enable(True)
            .icon_color("red")
            .expr(FAILURES)
        )
        .link(
            dashboard.DashboardLink("gpuwatch")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["gpuwatch"])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )
    for name, query in board.variables:
        made = made.with_variable(variable(name, query))
    for panel in board.panels:
        made = made.with_panel(panel_of(panel))
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(made.build()) + "\n"


def variable(name: str, query: str) -> dashboard.QueryVariable:
    """A variable with the values that Prometheus knows now, all of them until some are chosen."""
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize() if name != "gpu" else "GPU")
        .datasource(DATASOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def panel_of(panel: Panel) -> stat.Panel | timeseries.Panel | table.Panel:
    """One panel with its queries, unit, thresholds and link."""
    made: stat.Panel | timeseries.Panel | table.Panel
    if panel.kind == "stat":
        made = (
            stat.Panel()
            .graph_mode(common_models.BigValueGraphMode.NONE)
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        )
    elif panel.kind == "table":
        made = table.Panel()
    else:
        made = timeseries.Panel().fill_opacity(20 if panel.stacked else 5)
        if panel.least is not None:
            made = made.min(panel.least)
        if panel.stacked:
            made = made.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
        if panel.most is not None:
            made = made.max(panel.most)
        if panel.limits:
            made = made.thresholds_style(
                common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
            )
    made = (
        made.title(panel.title)
        .description(panel.help)
        .datasource(DATASOURCE)
        .unit(panel.unit)
        .span(panel.span)
        .height(HEIGHTS[panel.kind])
        .links([dashboard.DashboardLink("Runbook").url(f"{RUNBOOKS}#{panel.runbook}".rstrip("#")).target_blank(True)])
    )
    steps = [
        models.Threshold(value=None, color="green"),
        *(models.Threshold(value, colour) for value, colour in panel.limits),
    ]
    made = made.thresholds(dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    for place, ask in enumerate(panel.asks):
        query = prometheus.Dataquery().expr(ask.expr).legend_format(ask.legend).ref_id("ABCDEFGH"[place])
        if panel.kind == "table":
            query = query.format(prometheus_models.PromQueryFormat.TABLE)
        made = made.with_target(query.range() if panel.kind == "lines" else query.instant())
    return made


if __name__ == "__main__":
    main()
