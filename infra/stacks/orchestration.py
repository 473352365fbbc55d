"""The workflow of each contract, compiled from the step table, and what starts it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable

from cdktf_cdktf_provider_google.cloud_scheduler_job import CloudSchedulerJob
from cdktf_cdktf_provider_google.workflows_workflow import WorkflowsWorkflow
from constructs import Construct

from caudal.contract import Contract
from infra.access.grants import SCHEDULER, WORKFLOW, Grant
from infra.constructs.accounts import Grants
from infra.environments import Deployment
from infra.stacks.base import Stack
from infra.targets import targets
from pipeline.workflow import compile_workflow, escape_for_terraform

NAME = "orchestration"


class OrchestrationStack(Stack):
    """Workflows and schedules."""

    def __init__(self, scope: Construct, deployment: Deployment, grants: Iterable[Grant]) -> None:
        super().__init__(scope, NAME, deployment)
        own = [grant for grant in grants if grant.account in (SCHEDULER, WORKFLOW)]
        granted = Grants(self, own, deployment).resources
        for contract in deployment.contracts:
            workflow = self._workflow(contract)
            workflow.node.add_dependency(*granted)
            self._schedule(contract).node.add_dependency(workflow)

    def _workflow(self, contract: Contract) -> WorkflowsWorkflow:
        deployment, names = self.deployment, self.deployment.names
        compiled = compile_workflow(contract.name, deployment.environment, targets(deployment))
        return WorkflowsWorkflow(
            self,
            f"workflow-{contract.name}",
            name=names.workflow(contract.name),
            region=names.region,
            description=f"Caudal's run for {contract.name}",
            service_account=names.account(WORKFLOW),
            source_contents=escape_for_terraform(compiled.text),
            # Every call would cost more than the run; what fails says so itself.
            call_log_level="LOG_ERRORS_ONLY",
            deletion_protection=deployment.cloud.protected,
        )

    def _schedule(self, contract: Contract) -> CloudSchedulerJob:
        deployment, names = self.deployment, self.deployment.names
        body = json.dumps({"argument": json.dumps({"reason": "schedule"})})
        # From literals: a reference to the workflow's id gave terraform an inconsistent final plan.
        executions = (
            f"https://workflowexecutions.googleapis.com/v1/projects/{names.project}/locations/{names.region}"
            f"/workflows/{names.workflow(contract.name)}/executions"
        )
        return CloudSchedulerJob(
            self,
            f"schedule-{contract.name}",
            name=names.workflow(contract.name),
            region=names.region,
            description=f"Starts Caudal's run for {contract.name}",
            schedule=deployment.cloud.start.cron,
            time_zone=contract.time_zone,
            paused=deployment.cloud.start.paused,
            attempt_deadline="60s",
            # A start that was repeated finds the lock of the first.
            retry_config={"retry_count": 3, "min_backoff_duration": "30s"},
            http_target={
                "http_method": "POST",
                "uri": executions,
                "body": base64.b64encode(body.encode()).decode(),
                "headers": {"Content-Type": "application/json"},
                "oauth_token": {
                    "service_account_email": names.account(SCHEDULER),
                    "scope": "https://www.googleapis.com/auth/cloud-platform",
                },
            },
        )
