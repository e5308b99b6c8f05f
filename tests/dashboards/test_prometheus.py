"""A real Prometheus scrapes the real page: every panel gives numbers, an alert reaches a webhook, node_exporter takes the file.

No Grafana draws anything here: what is proven is the queries.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpuwatch.adapters.rulebook import load_rules
from gpuwatch.adapters.webhook import signature
from gpuwatch.core.snapshot import Snapshot
from gpuwatch.faces.exporter import Page
from gpuwatch.faces.exporter.files import Discovery, Textfile
from tests.adapters.receiver import Got, hook
from tests.dashboards.feed import exporter
from tests.dashboards.real import Prometheus, alertmanager, free_port, get, prometheus, running, tool, until
from tests.dashboards.test_files import FOLDER, PANELS, RULES
from tests.faces.web import HASH, make_certificates, serving

pytestmark = pytest.mark.xdist_group("prometheus")

SECRET = "a secret of the relay and of the webhook"  # noqa: S105 - of this test alone
VARIABLES = {
    "$__rate_interval": "10s", "$__interval": "2s", "$__range": "30s", "$instance": ".*", "$server": ".*", "$gpu": ".*",
}  # fmt: skip


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes three pages: a busy machine's, a quiet one found through a file, and a guarded one."""
    tool("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    guarded = make_certificates(folder)
    web = folder / "web.yml"
    web.write_text(
        f"tls_server_config: {{cert_file: server.crt, key_file: server.key}}\nbasic_auth_users: {{scraper: {HASH}}}\n"
    )
    with exporter() as busy, serving() as quiet, serving(web_config=web) as closed:
        Discovery(folder / "found.json", "127.0.0.1", quiet.port, quiet.scheme)
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(path) for path in RULES],
            "scrape_configs": [
                {
                    "job_name": "gpuwatch",
                    "static_configs": [{"targets": [f"127.0.0.1:{busy.port}"], "labels": {"machine": "busy"}}],
                },
                {"job_name": "found", "file_sd_configs": [{"files": [str(folder / "found.json")]}]},
                {
                    "job_name": "guarded",
                    "scheme": "https",
                    "basic_auth": {"username": "scraper", "password": "open sesame"},
                    "tls_config": {"ca_file": str(guarded.path("ca.crt"))},
                    "static_configs": [{"targets": [f"127.0.0.1:{closed.port}"]}],
                },
            ],
        }
        with prometheus(folder, json.dumps(config)) as server:
            until(
                lambda: server.values('count_over_time(gpuwatch_build_info{machine="busy"}[1m]) > 3'), "no scrape came"
            )
            yield server


@pytest.mark.parametrize("panel", PANELS)
def test_every_panel_gives_numbers(scraped: Prometheus, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        expr = target["expr"]
        for name, value in VARIABLES.items():
            expr = expr.replace(name, value)
        assert "$" not in expr
        assert until(lambda expr=expr: scraped.values(expr), f"nothing but emptiness or NaN: {expr}")


def test_the_annotations_give_numbers(scraped: Prometheus) -> None:
    for path in sorted((FOLDER / "grafana").glob("*.json")):
        (annotation,) = json.loads(path.read_text("utf-8"))["annotations"]["list"]
        expr = annotation["expr"].replace("$instance", ".*").replace("$__rate_interval", "10s")
        assert until(lambda expr=expr: scraped.values(expr), expr)


def test_what_is_found_through_a_file_and_what_is_guarded_is_scraped_too(scraped: Prometheus) -> None:
    for job in ("gpuwatch", "found", "guarded"):
        expr = 'up{job="gpuwatch",machine=""}' if job == "found" else f'up{{job="{job}"}}'
        assert until(lambda expr=expr: 1.0 in scraped.values(expr), expr)


def test_no_scrape_was_refused_for_its_content(scraped: Prometheus) -> None:
    assert until(lambda: scraped.values('scrape_samples_scraped{machine="busy"}'))
    assert max(scraped.values("prometheus_target_scrapes_sample_duplicate_timestamp_total") or [0.0]) == 0
    assert scraped.values('sum(up{machine="busy"})') == [1.0]


def test_an_exemplar_leads_to_the_incident(scraped: Prometheus) -> None:
    question = urllib.parse.urlencode({"query": "gpuwatch_incidents_total", "start": "0", "end": "9999999999"})

    def exemplars() -> Any:
        body = get(f"{scraped.url}/api/v1/query_exemplars?{question}")
        return json.loads(body)["data"] if body else None

    told = until(exemplars, "no exemplar came")
    assert all(len(each["labels"]["incident"]) > 6 for series in told for each in series["exemplars"])


# -- from a failure to a person --------------------------------------------------------------------------------------------


@contextmanager
def relay(folder: Path, *addresses: str) -> Iterator[str]:
    """A `gpuwatch notify` that passes on to these; where it listens."""
    command = [sys.executable, "-m", "gpuwatch.faces.cli", "notify", "--listen", "127.0.0.1:0", "--lang", "zh"]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "GPUWATCH_NOTIFY_SECRET": SECRET}
    words = [word for address in addresses for word in ("--to", address)]
    log = folder / "relay.log"
    with log.open("wb") as out, subprocess.Popen([*command, *words], stdout=out, stderr=out, env=environment) as child:
        try:
            yield until(
                lambda: re.search(r"http://127\.0\.0\.1:\d+/alerts", log.read_text("utf-8")), "it does not listen"
            )[0]
        finally:
            child.kill()


def test_a_failure_reaches_a_webhook_through_alertmanager_and_our_own_relay(tmp_path: Path) -> None:
    tool("prometheus")
    tool("prometheus-alertmanager")
    example = (FOLDER / "alertmanager" / "alertmanager.example.yml").read_text("utf-8")
    with hook() as there, exporter(gpus=1) as page, relay(tmp_path, f"{there.address}/told") as alerts:
        routed = re.sub(r"http://127\.0\.0\.1:909[56]/alerts", alerts, example)
        assert routed.count(alerts) == 2
        for slow in ("group_wait: 10s", "group_wait: 2m", "group_interval: 5m"):
            routed = routed.replace(slow, slow.partition(":")[0] + ": 1s")
        with alertmanager(tmp_path, routed) as manager:
            config = {
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(path) for path in RULES],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
                "scrape_configs": [
                    {"job_name": "gpuwatch", "static_configs": [{"targets": [f"127.0.0.1:{page.port}"]}]}
                ],
            }
            with prometheus(tmp_path, json.dumps(config)):

                def burst() -> list[Got]:
                    opened = [got for got in list(there.got) if got.json["event"] == "opened"]
                    return [
                        got for got in opened if got.json["alert"]["labels"]["alertname"] == "GpuwatchOutOfMemoryBurst"
                    ]

                got = until(burst, "no notice came")[0]
    told = got.json
    assert got.path == "/told"
    assert (told["version"], told["event"], told["severity"]) == ("1", "opened", "warning")
    assert told["key"] == told["alert"]["fingerprint"]
    assert "显存不足" in told["title"]
    assert "GPU memory ran out" in told["alert"]["annotations"]["summary"]
    assert told["alert"]["annotations"]["runbook_url"].endswith("#gpuwatchoutofmemoryburst")
    at = datetime.fromtimestamp(int(got.headers["webhook-timestamp"]), UTC)
    signed = signature(got.headers["webhook-id"], at, got.body, SECRET.encode())
    assert signed["webhook-signature"] == got.headers["webhook-signature"]


def test_node_exporter_takes_the_file(tmp_path: Path) -> None:
    port = free_port()
    command = [
        tool("prometheus-node-exporter"), f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults",
        "--collector.textfile", f"--collector.textfile.directory={tmp_path}",
    ]  # fmt: skip
    writer = Textfile(tmp_path / "own.prom", Page(Snapshot, load_rules(), workloads=("ddcolor",)))
    try:
        with running(command, tmp_path / "node_exporter.log", f"http://127.0.0.1:{port}/"):
            page = until(lambda: get(f"http://127.0.0.1:{port}/metrics")).decode()
    finally:
        writer.close()
    assert "node_textfile_scrape_error 0" in page
    assert 'gpuwatch_incidents_total{label="cuda_oom",severity="error"} 0' in page
    assert 'gpuwatch_job_duration_seconds_bucket{outcome="success"' in page
