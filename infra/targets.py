"""What the workflow calls in one environment: the stacks' names and sizes, as the compiler wants them."""

from __future__ import annotations

from infra.environments import Deployment
from pipeline.steps import STEPS
from pipeline.workflow.targets import Dataflow, Targets, Training, service_of


def targets(deployment: Deployment) -> Targets:
    """The targets of an environment."""
    names, cloud = deployment.names, deployment.cloud
    sizes = cloud.sizes
    temp = f"gs://{names.bucket('temp')}"
    units = {service_of(step): step.unit for step in STEPS}
    return Targets(
        project=names.project,
        region=names.region,
        function=names.function_url,
        jobs={step.unit: names.resource(step.unit) for step in STEPS if service_of(step) == "job"},
        dataflow=Dataflow(
            account=names.account(units["template"]),
            subnetwork=names.subnetwork,
            temp=f"{temp}/dataflow/temp",
            staging=f"{temp}/dataflow/staging",
            machine_type=sizes.etl_beam.machine_type,
            workers=sizes.etl_beam.workers,
            max_workers=sizes.etl_beam.max_workers,
            disk_gb=sizes.etl_beam.disk_gb,
        ),
        training=Training(
            account=names.account(units["training"]),
            machine_type=sizes.training.machine_type,
            strategy=sizes.training.strategy,
        ),
        labels={**cloud.labels, "environment": deployment.name, "managed-by": "caudal"},
    )
