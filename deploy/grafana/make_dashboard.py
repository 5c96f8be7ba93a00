"""Writes firmtrail.json, a dashboard for Grafana 10 and newer: run this file with Python.

A panel is an entry of `ROWS`. The tests run every query against a Prometheus with the metrics of a
server.
"""

import json
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

OUTPUT = Path(__file__).with_name("firmtrail.json")
SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT, PER_ROW = 8, 7, 3

OF = '{job=~"$job"}'


class Panel(NamedTuple):
    """Describes a panel: its queries, each with the legend of its series."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]


def rate(counter: str, by: str = "", labels: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f'sum{grouped} (rate({counter}{{job=~"$job"{labels}}}[$__rate_interval]))'


def quantile(share: float, histogram: str, labels: str = "") -> str:
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', 'le', labels)})"


REQUESTS = "firmtrail_http_request_duration_seconds"
EVENTS = "firmtrail_commit_events"
COMMITS = "firmtrail_commit_duration_seconds"

ROWS: dict[str, tuple[Panel, ...]] = {
    "Is it well?": (
        Panel(
            "Ready servers, refused logs",
            "short",
            (
                (f"sum(firmtrail_ready{OF})", "ready"),
                (f"max(firmtrail_refused_logs{OF})", "refused"),
            ),
        ),
        Panel(
            "Seconds since checkpoints were up to date",
            "s",
            (
                (
                    "time() - max(firmtrail_follower_success_timestamp_seconds"
                    '{job=~"$job", follower="publisher"})',
                    "publisher",
                ),
            ),
        ),
        Panel(
            "Stores up (1 = yes)",
            "short",
            (
                (f"min(firmtrail_checkpoints_up{OF})", "checkpoints"),
                (f"min(firmtrail_artifacts_up{OF})", "artifacts"),
                (f"min(firmtrail_publishing{OF})", "publishing"),
            ),
        ),
    ),
    "Requests": (
        Panel(
            "Requests by protocol",
            "reqps",
            ((rate(f"{REQUESTS}_count", "protocol"), "{{protocol}}"),),
        ),
        Panel("Answers by status", "reqps", ((rate(f"{REQUESTS}_count", "status"), "{{status}}"),)),
        Panel(
            "Duration of reports",
            "s",
            tuple(
                (quantile(share, REQUESTS, ', method="POST", route=~".*/reports"'), f"{share:.0%}")
                for share in (0.5, 0.99)
            ),
        ),
    ),
    "Recording": (
        Panel(
            "Events by type",
            "short",
            ((rate("firmtrail_events_appended_total", "type"), "{{type}}"),),
        ),
        Panel(
            "Duration of commits",
            "s",
            tuple((quantile(share, COMMITS), f"{share:.0%}") for share in (0.5, 0.99)),
        ),
        Panel(
            "Events of a commit; failed commits a second",
            "short",
            (
                (
                    f"{rate(f'{EVENTS}_sum')} / {rate(f'{EVENTS}_count')}",
                    "events",
                ),
                (rate("firmtrail_failed_commits_total"), "failed"),
            ),
        ),
    ),
    "What waits": (
        Panel(
            "Commands and hashes that wait",
            "short",
            (
                (f"sum(firmtrail_waiting_commands{OF})", "commands"),
                (f"sum(firmtrail_bcrypt_waiting{OF})", "hashes"),
            ),
        ),
        Panel(
            "Long requests",
            "short",
            ((f"sum by (kind) (firmtrail_open_requests{OF})", "{{kind}}"),),
        ),
        Panel(
            "Connections to the database",
            "short",
            (
                (f"sum(firmtrail_database_connections{OF})", "open"),
                (f"sum(firmtrail_database_connections_busy{OF})", "in use"),
            ),
        ),
    ),
    "Webhooks": (
        Panel(
            "Webhooks",
            "short",
            (
                (f"max(firmtrail_webhooks{OF})", "all"),
                (f"max(firmtrail_webhooks_disabled{OF})", "disabled"),
            ),
        ),
        Panel(
            "Events that wait for webhooks",
            "short",
            ((f"max(firmtrail_webhook_waiting_events{OF})", "events"),),
        ),
    ),
    "The process": (
        Panel(
            "CPU", "percentunit", ((rate("process_cpu_seconds_total", "instance"), "{{instance}}"),)
        ),
        Panel("Memory", "bytes", ((f"process_resident_memory_bytes{OF}", "{{instance}}"),)),
        Panel(
            "Connections of clients",
            "short",
            (
                (f"sum(firmtrail_connections{OF})", "open"),
                (f"sum(firmtrail_connections_max{OF})", "largest"),
            ),
        ),
    ),
    "The fleet": (
        Panel(
            "Devices",
            "short",
            (
                (f"max(firmtrail_devices{OF})", "registered"),
                (f"max(firmtrail_devices_outdated{OF})", "outdated"),
            ),
        ),
        Panel(
            "Rollouts",
            "short",
            (
                (f"max by (state) (firmtrail_rollouts{OF})", "{{state}}"),
                (f"max(firmtrail_rollouts_stuck{OF})", "stuck"),
            ),
        ),
        Panel(
            "Running rollouts by phase",
            "short",
            ((f"max by (phase) (firmtrail_rollouts_in_phase{OF})", "phase {{phase}}"),),
        ),
        Panel("Events in all logs", "short", ((f"max(firmtrail_log_events{OF})", "events"),)),
        Panel(
            "Rejected credentials",
            "short",
            ((rate("firmtrail_rejected_attempts_total", "outcome"), "{{outcome}}"),),
        ),
    ),
}


def panels() -> Iterator[dict[str, Any]]:
    """Yields the panels below their headings, `PER_ROW` next to each other."""
    number = top = 0
    for heading, row in ROWS.items():
        number += 1
        place = {"x": 0, "y": top, "w": WIDTH * PER_ROW, "h": 1}
        yield {"id": number, "type": "row", "title": heading, "gridPos": place, "panels": []}
        for at, panel in enumerate(row):
            number += 1
            down, right = divmod(at, PER_ROW)
            place = {"x": WIDTH * right, "y": top + 1 + HEIGHT * down, "w": WIDTH, "h": HEIGHT}
            yield chart(number, panel, place)
        top += 1 + HEIGHT * ceil(len(row) / PER_ROW)


def chart(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "expr": query,
                "legendFormat": legend,
                "datasource": SOURCE,
            }
            for at, (query, legend) in enumerate(panel.queries)
        ],
    }


def dashboard() -> dict[str, Any]:
    """Returns the dashboard, with a choice of the source and of the job."""
    job = {
        "name": "job",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(firmtrail_build_info, job)",
        "refresh": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }
    return {
        "uid": "firmtrail",
        "title": "Firmtrail",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus"}, job]
        },
        "panels": list(panels()),
    }


def text() -> str:
    """Returns the file's text."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(text())
