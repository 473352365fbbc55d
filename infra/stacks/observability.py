"""What is watched, who is told, and what a month may cost."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from cdktf_cdktf_provider_google.bigquery_dataset_iam_member import BigqueryDatasetIamMember
from cdktf_cdktf_provider_google.billing_budget import BillingBudget
from cdktf_cdktf_provider_google.logging_project_bucket_config import LoggingProjectBucketConfig
from cdktf_cdktf_provider_google.logging_project_sink import LoggingProjectSink
from cdktf_cdktf_provider_google.monitoring_alert_policy import MonitoringAlertPolicy
from cdktf_cdktf_provider_google.monitoring_dashboard import MonitoringDashboard
from cdktf_cdktf_provider_google.monitoring_notification_channel import MonitoringNotificationChannel
from constructs import Construct

from caudal.alarms import RUNBOOK, Severity
from caudal.served import MESSAGE
from caudal.tables import PREDICTIONS
from infra.cdk import blocks
from infra.dashboard import dashboard
from infra.environments import Deployment
from infra.stacks.base import Stack

NAME = "observability"
# As git writes it, in full or cut short; not what a test or a copy without git calls one.
_COMMIT = re.compile(r"[0-9a-f]{7,40}")
# What a mail says of an alarm of the monitor. Each combination of values is an incident of its own, so one alarm
# does not silence another. Log entries say no more of a row than the alarm does: figures, and no values.
_LABELS = {
    "message": "EXTRACT(jsonPayload.message)",
    **{
        name: f"EXTRACT(jsonPayload.alarm.{field})"
        for name, field in {
            "contract": "contract",
            "kind": "kind",
            "feature": "feature",
            "value": "value",
            "threshold": "threshold",
            "state": "state",
            "evidence": "evidence_text",
            "runbook": "runbook",
        }.items()
    },
}


_STANDING = {"auto_close": "86400s"}


def _condition(
    title: str,
    filter_: str,
    *,
    aligner: str,
    threshold: float,
    duration: str = "0s",
    by: Sequence[str] = (),
    of: str = "",
) -> dict[str, Any]:
    """One condition on a metric.

    Args:
        by: labels whose values are judged one by one; all series together where it is empty.
        of: the filter of what the metric is divided by; empty where it counts by itself.
    """
    aggregated = [
        {
            "alignment_period": "300s",
            "per_series_aligner": aligner,
            "cross_series_reducer": "REDUCE_MAX" if aligner != "ALIGN_DELTA" else "REDUCE_SUM",
            **({"group_by_fields": list(by)} if by else {}),
        }
    ]
    divided = {"denominator_filter": of, "denominator_aggregations": aggregated} if of else {}
    return {
        "display_name": title,
        "condition_threshold": {
            "filter": filter_,
            "comparison": "COMPARISON_GT",
            "threshold_value": threshold,
            "duration": duration,
            "aggregations": aggregated,
            "trigger": {"count": 1},
            **divided,
        },
    }


def _label(name: str) -> str:
    """The label's value in a policy's documentation; the second `$` keeps Terraform from reading it."""
    return f"$${{log.extracted_label.{name}}}"


_SAID = f"""{_label("message")}

- contract: {_label("contract")}
- feature: {_label("feature")}
- {_label("state")}: {_label("value")}, threshold {_label("threshold")}
- evidence: {_label("evidence")}"""


class ObservabilityStack(Stack):
    """Channels, alert policies, dashboard, log sinks, budget."""

    def __init__(self, scope: Construct, deployment: Deployment) -> None:
        super().__init__(scope, NAME, deployment)
        self._channels = [
            MonitoringNotificationChannel(
                self,
                f"channel-{number}",
                display_name=f"Caudal {deployment.name}: {address}",
                type="email",
                labels={"email_address": address},
            )
            for number, address in enumerate(deployment.cloud.alarm_emails)
        ]
        self._runs()
        self._serving()
        self._database()
        self._logs()
        self._budget()
        MonitoringDashboard(
            self,
            "dashboard",
            dashboard_json=json.dumps(dashboard(deployment), sort_keys=True),
        )

    def _runs(self) -> None:
        names = self.deployment.names
        self._threshold(
            "run-failed",
            "ERROR",
            "A run failed",
            "The run's record names the step and the reason: `caudal runs`.",
            'resource.type = "workflows.googleapis.com/Workflow" AND '
            'metric.type = "workflows.googleapis.com/finished_execution_count" AND '
            'metric.labels.status = "FAILED"',
            aligner="ALIGN_DELTA",
        )
        entry = f'resource.type = "cloud_run_job" AND resource.labels.job_name = "{names.resource("monitor")}"'
        for severity in get_args(Severity):
            # A policy has one severity, and none for information.
            ended = severity == "info"
            self._log_match(
                "alarm-ended" if ended else f"alarm-{severity}",
                None if ended else severity.upper(),
                "An alarm has ended" if ended else f"The monitor raised an alarm ({severity})",
                _SAID,
                f'{entry} AND jsonPayload.alarm.severity = "{severity}"',
                runbook=_label("runbook"),
                labels=_LABELS,
                subject=f"Caudal {self.deployment.name}, {'ended' if ended else severity}: "
                f"{_label('kind')} in {_label('contract')}",
            )
        self._log_match(
            "not-started",
            "ERROR",
            "A run was not started",
            "Cloud Scheduler could not start the workflow.",
            'resource.type = "cloud_scheduler_job" AND severity >= ERROR',
        )

    def _serving(self) -> None:
        service = f'resource.labels.service_name = starts_with("{self.deployment.names.serving("")}")'
        revision = f'resource.type = "cloud_run_revision" AND {service}'
        answers = f'{revision} AND metric.type = "run.googleapis.com/request_count"'
        failed = f'{answers} AND metric.labels.response_code_class = "5xx"'
        by = ["resource.label.service_name"]
        # A share, so that it speaks at any load; and a number, so that one answer at night does not.
        self._policy(
            "serving-errors",
            "CRITICAL",
            "Serving answers with errors",
            "In five minutes more than one answer in twenty, and at least five, were server errors.",
            [
                _condition(
                    "The share of errors", failed, aligner="ALIGN_DELTA", threshold=0.05, by=by, of=answers
                ),
                _condition("The number of errors", failed, aligner="ALIGN_DELTA", threshold=4.0, by=by),
            ],
            _STANDING,
            combiner="AND_WITH_MATCHING_RESOURCE",
        )
        self._log_match(
            "serving-stale",
            "ERROR",
            "Serving can't see what is live",
            "A server could not read the ledger or load a model: promotions and rollbacks don't reach it.",
            f'{self._servers_logs()} AND jsonPayload.part = "ledger" AND severity >= ERROR',
        )
        self._threshold(
            "serving-slow",
            "WARNING",
            "Serving is slow",
            "One answer in a hundred took more than a second.",
            f'{revision} AND metric.type = "run.googleapis.com/request_latencies"',
            aligner="ALIGN_PERCENTILE_99",
            threshold=1000.0,
            duration="600s",
        )

    def _servers_logs(self) -> str:
        """The filter of what servers log."""
        return (
            'resource.type = "cloud_run_revision" AND '
            f'resource.labels.service_name : "{self.deployment.names.serving("")}"'
        )

    def _database(self) -> None:
        instance = f"{self.deployment.cloud.project}:{self.deployment.names.database_instance}"
        self._threshold(
            "database-disk",
            "WARNING",
            "The tracking database's disk fills",
            "It grows by itself; what fills it is worth a look: `mlflow gc` removes deleted runs.",
            f'resource.type = "cloudsql_database" AND resource.labels.database_id = "{instance}" AND '
            'metric.type = "cloudsql.googleapis.com/database/disk/utilization"',
            aligner="ALIGN_MEAN",
            threshold=0.9,
            duration="600s",
        )

    def _threshold(
        self,
        name: str,
        severity: str,
        title: str,
        text: str,
        filter_: str,
        *,
        aligner: str,
        threshold: float = 0.0,
        duration: str = "0s",
    ) -> None:
        condition = _condition(title, filter_, aligner=aligner, threshold=threshold, duration=duration)
        self._policy(name, severity, title, text, [condition], _STANDING)

    def _log_match(
        self,
        name: str,
        severity: str | None,
        title: str,
        text: str,
        filter_: str,
        *,
        runbook: str = "",
        labels: Mapping[str, str] | None = None,
        subject: str | None = None,
    ) -> None:
        matched: dict[str, Any] = {"filter": filter_}
        if labels:
            matched["label_extractors"] = labels
        condition = {"display_name": title, "condition_matched_log": matched}
        # A policy on log entries must say how often it may write.
        strategy = {"auto_close": "86400s", "notification_rate_limit": {"period": "300s"}}
        self._policy(name, severity, title, text, [condition], strategy, runbook, subject)

    def _policy(
        self,
        name: str,
        severity: str | None,
        title: str,
        text: str,
        conditions: Sequence[Any],
        strategy: dict[str, Any],
        runbook: str = "",
        subject: str | None = None,
        combiner: str = "OR",
    ) -> None:
        """One policy.

        Args:
            combiner: how conditions make an alert: `OR`, or all of them of one resource.
            severity: None where the policy only informs.
            runbook: what to do, as a path in the repository; the section of the policy's own name when empty.
            subject: of the mail; Cloud Monitoring's own when None.
        """
        link = self._in_repository(runbook or f"{RUNBOOK}#{name}")
        MonitoringAlertPolicy(
            self,
            f"alert-{name}",
            display_name=f"Caudal {self.deployment.name}: {title}",
            severity=severity,
            combiner=combiner,
            conditions=blocks(*conditions),
            alert_strategy=strategy,
            notification_channels=[channel.name for channel in self._channels],
            documentation={
                "content": f"{text}\n\n[What to do]({link})",
                "mime_type": "text/markdown",
                "subject": subject,
            },
        )

    def _in_repository(self, path: str) -> str:
        """Where a file is read in a browser, as it was when what is deployed was built."""
        release = self.deployment.release
        commit = release.commit if release and _COMMIT.fullmatch(release.commit) else "HEAD"
        return f"https://github.com/{self.deployment.cloud.github.repository}/blob/{commit}/{path}"

    def _logs(self) -> None:
        names = self.deployment.names
        LoggingProjectBucketConfig(
            self,
            "retention",
            project=names.project,
            location="global",
            bucket_id="_Default",
            retention_days=self.deployment.cloud.retention.logs,
        )
        sink = LoggingProjectSink(
            self,
            "served-predictions",
            name="caudal-served-predictions",
            description="Each prediction that was served, as one row",
            destination=f"bigquery.googleapis.com/projects/{names.project}/datasets/{PREDICTIONS}",
            # The monitor reads the table that this makes (caudal.served.bigquery).
            filter=f'{self._servers_logs()} AND jsonPayload.message = "{MESSAGE}"',
            bigquery_options={"use_partitioned_tables": True},
            unique_writer_identity=True,
        )
        BigqueryDatasetIamMember(
            self,
            "served-predictions-writer",
            dataset_id=PREDICTIONS,
            role="roles/bigquery.dataEditor",
            member=sink.writer_identity,
        )

    def _budget(self) -> None:
        budget = self.deployment.cloud.budget
        BillingBudget(
            self,
            "budget",
            billing_account=budget.billing_account,
            display_name=f"Caudal {self.deployment.name}",
            amount={"specified_amount": {"currency_code": budget.currency, "units": str(budget.monthly)}},
            budget_filter={"projects": [f"projects/{self.deployment.cloud.project_number}"]},
            threshold_rules=blocks(*({"threshold_percent": share} for share in budget.alert_at)),
            all_updates_rule={
                "monitoring_notification_channels": [channel.name for channel in self._channels],
                "disable_default_iam_recipients": False,
            },
        )
