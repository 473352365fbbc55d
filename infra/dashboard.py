"""The dashboard: a run from its start to what is served, in one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.environments import Deployment

Widget = dict[str, Any]
COLUMNS, WIDTH, HEIGHT = 12, 6, 4


def dashboard(deployment: Deployment) -> Mapping[str, Any]:
    """The dashboard as Cloud Monitoring's API takes it."""
    names = deployment.names
    prefix = names.serving("")
    serving = f'resource.type="cloud_run_revision" resource.labels.service_name=starts_with("{prefix}")'
    jobs = 'resource.type="cloud_run_job"'
    database = f"{names.project}:{names.database_instance}"
    sql = f'resource.type="cloudsql_database" resource.labels.database_id="{database}"'
    workflow = 'resource.type="workflows.googleapis.com/Workflow"'
    widgets = [
        _chart(
            "Runs by outcome",
            f'metric.type="workflows.googleapis.com/finished_execution_count" {workflow}',
            "ALIGN_DELTA",
            "metric.label.status",
        ),
        _chart(
            "Length of runs (99th percentile)",
            f'metric.type="workflows.googleapis.com/execution_times" {workflow}',
            "ALIGN_PERCENTILE_99",
            "resource.label.workflow_id",
        ),
        _logs("Alarms", "jsonPayload.alarm.id:*"),
        _chart(
            "Executions of jobs",
            f'metric.type="run.googleapis.com/job/completed_execution_count" {jobs}',
            "ALIGN_DELTA",
            "resource.label.job_name",
        ),
        _chart(
            "Requests to serving",
            f'metric.type="run.googleapis.com/request_count" {serving}',
            "ALIGN_RATE",
            "metric.label.response_code_class",
        ),
        _chart(
            "Latency of serving (99th percentile, ms)",
            f'metric.type="run.googleapis.com/request_latencies" {serving}',
            "ALIGN_PERCENTILE_99",
            "resource.label.revision_name",
        ),
        _chart(
            "Bytes that queries read",
            'metric.type="bigquery.googleapis.com/query/statement_scanned_bytes" resource.type="global"',
            "ALIGN_DELTA",
            "",
        ),
        _chart(
            "Tracking database: processor",
            f'metric.type="cloudsql.googleapis.com/database/cpu/utilization" {sql}',
            "ALIGN_MEAN",
            "",
        ),
    ]
    tiles = [
        {
            "xPos": position % (COLUMNS // WIDTH) * WIDTH,
            "yPos": position // (COLUMNS // WIDTH) * HEIGHT,
            "width": WIDTH,
            "height": HEIGHT,
            "widget": widget,
        }
        for position, widget in enumerate(widgets)
    ]
    return {
        "displayName": f"Caudal {deployment.name}",
        "mosaicLayout": {"columns": COLUMNS, "tiles": tiles},
    }


def _chart(title: str, filter_: str, aligner: str, group_by: str) -> Widget:
    aggregation: dict[str, Any] = {"alignmentPeriod": "300s", "perSeriesAligner": aligner}
    if group_by:
        aggregation |= {
            "crossSeriesReducer": "REDUCE_MAX" if "PERCENTILE" in aligner else "REDUCE_SUM",
            "groupByFields": [group_by],
        }
    query = {"timeSeriesFilter": {"filter": filter_, "aggregation": aggregation}}
    return {"title": title, "xyChart": {"dataSets": [{"timeSeriesQuery": query, "plotType": "LINE"}]}}


def _logs(title: str, filter_: str) -> Widget:
    return {"title": title, "logsPanel": {"filter": filter_, "resourceNames": []}}
