"""The cloud section of an environment: what Google Cloud needs to know that a laptop does not.

Stacks, the workflow's compiler, the release and the cost estimate read it. No service does: what a service needs
is in the other sections.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from caudal.yaml_document import Section

_CRON = re.compile(r"^(\S+ ){4}\S+$")


def _cron(text: str) -> str:
    if not _CRON.match(text):
        raise ValueError(f"'{text}' is not a cron expression of five fields, such as '0 5 * * *'")
    return text


Cron = Annotated[str, AfterValidator(_cron)]
Memory = Annotated[str, Field(pattern=r"^\d+(Mi|Gi)$")]
Vcpu = Annotated[str, Field(pattern=r"^(0\.\d+|1|2|4|6|8)$")]


class GitHub(Section):
    """The repository whose workflows may deploy. Its number can't be taken over by whoever takes its name.

    Attributes:
        repository: `owner/name`.
        repository_id: its number (`gh api repos/OWNER/NAME --jq .id`).
    """

    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    repository_id: str = Field(pattern=r"^\d+$")


class Network(Section):
    """Address ranges; private, and free to be the same in every environment.

    Attributes:
        subnet: of everything that runs in the network: Dataflow workers, egress of Cloud Run.
        services: lent to Google for managed services with private addresses (Cloud SQL); at least a /24.
    """

    subnet: str = Field(default="10.20.0.0/20", pattern=r"^\d+(\.\d+){3}/\d+$")
    services: str = Field(default="10.21.0.0/20", pattern=r"^\d+(\.\d+){3}/\d+$")


class FunctionSize(Section):
    """The ingest function. It takes one batch at a time, so a second instance serves another contract.

    Attributes:
        cpu: vCPUs of a container.
        memory: memory of a container.
        max_instances: at most so many at once.
        timeout_seconds: after which a call is cut off; Workflows waits at most 1,800.
    """

    cpu: Vcpu = "1"
    memory: Memory = "2Gi"
    max_instances: int = Field(default=2, ge=1)
    timeout_seconds: int = Field(default=1800, ge=60, le=3600)


class JobSize(Section):
    """A Cloud Run job.

    Attributes:
        cpu: vCPUs of a container.
        memory: memory of a container.
        timeout_seconds: after which a task has failed.
        tasks: how many containers share the work; they run side by side.
    """

    cpu: Vcpu = "1"
    memory: Memory = "2Gi"
    tasks: int = Field(default=1, ge=1, le=100)
    timeout_seconds: int = Field(default=3600, ge=60, le=86400)


class ServiceSize(Section):
    """A Cloud Run service.

    Attributes:
        cpu: vCPUs of a container.
        memory: memory of a container.
        min_instances: kept running without requests; each costs all month.
        max_instances: at most so many at once.
        concurrency: requests that one instance serves at once.
    """

    cpu: Vcpu = "1"
    memory: Memory = "1Gi"
    min_instances: int = Field(default=0, ge=0)
    max_instances: int = Field(default=1, ge=1)
    concurrency: int = Field(default=80, ge=1, le=1000)


class DataflowSize(Section):
    """The workers of a Dataflow job.

    Attributes:
        machine_type: of a worker.
        workers: at the start.
        max_workers: at most so many.
        disk_gb: of a worker.
    """

    machine_type: str = "n2-standard-2"
    workers: int = Field(default=1, ge=1)
    max_workers: int = Field(default=2, ge=1)
    disk_gb: int = Field(default=30, ge=25)


class TrainingSize(Section):
    """A Vertex AI custom job.

    Attributes:
        machine_type: of the training.
        strategy: SPOT is cheaper, and may be interrupted and begun again.
    """

    machine_type: str = "n2-standard-4"
    strategy: Literal["STANDARD", "SPOT"] = "STANDARD"


class DatabaseSize(Section):
    """Cloud SQL, for MLflow.

    Attributes:
        tier: the instance's size.
        disk_gb: at the start; it grows by itself.
        zones: 1, or 2 for a standby that takes over.
        backups: how many daily backups are kept.
    """

    tier: str = "db-f1-micro"
    disk_gb: int = Field(default=10, ge=10)
    zones: Literal[1, 2] = 1
    backups: int = Field(default=7, ge=1)


class Sizes(Section):
    """How big each unit is."""

    ingest_function: FunctionSize = FunctionSize()
    etl_beam: DataflowSize = DataflowSize()
    trainer: JobSize = JobSize(cpu="2", memory="8Gi")
    training: TrainingSize = TrainingSize()
    batch_scoring: JobSize = JobSize(cpu="2", memory="4Gi")
    monitor: JobSize = JobSize(cpu="1", memory="4Gi")
    serving: ServiceSize = ServiceSize()
    mlflow_server: ServiceSize = ServiceSize(memory="2Gi")
    database: DatabaseSize = DatabaseSize()


class Start(Section):
    """When Cloud Scheduler starts a run of every contract, in the contract's own time zone.

    Attributes:
        cron: five fields.
        paused: nothing is started by the clock.
    """

    cron: Cron = "0 5 * * *"
    paused: bool = False


class Retention(Section):
    """How many days objects and logs are kept.

    Attributes:
        staging: Parquet that was loaded, temporary files of Dataflow.
        noncurrent: versions of objects that were replaced or deleted.
        logs: the logs in Cloud Logging.
    """

    staging: int = Field(default=7, ge=1)
    noncurrent: int = Field(default=30, ge=1)
    logs: int = Field(default=30, ge=1, le=3650)


class Budget(Section):
    """What a month may cost.

    Attributes:
        currency: of every figure here.
        alert_at: shares of the budget.
        billing_account: such as `01ABCD-234567-89EF01`.
        monthly: the budget, in the currency; Google writes to the alarm addresses at `alert_at` of it.
        idle_limit: `caudal cost` fails when a month without any run is estimated above it.
        running_limit: the same for a month with the workload.
    """

    billing_account: str = Field(pattern=r"^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$")
    currency: Literal["USD"] = "USD"
    monthly: int = Field(gt=0)
    alert_at: tuple[float, ...] = (0.5, 0.9, 1.0)
    idle_limit: float = Field(gt=0)
    running_limit: float = Field(gt=0)


class Minutes(Section):
    """How long one run keeps each unit busy, in minutes of one container, worker or machine.

    `trainer` is the Cloud Run jobs of a run that trains, `training` the machine on Vertex AI.

    Attributes:
        ingest_function: of the function.
        etl_beam: of one worker.
        batch_scoring: of its job.
        monitor: of its two jobs together.
        trainer: of its jobs together.
        training: of the machine.
    """

    ingest_function: float = Field(default=2.0, ge=0)
    etl_beam: float = Field(default=12.0, ge=0)
    batch_scoring: float = Field(default=3.0, ge=0)
    monitor: float = Field(default=4.0, ge=0)
    trainer: float = Field(default=10.0, ge=0)
    training: float = Field(default=10.0, ge=0)


class Workload(Section):
    """What a month is expected to bring; the cost estimate multiplies by it.

    Attributes:
        landed_gb: compressed, as it lands.
        warehouse_gb: what lake and warehouse hold once the environment is in use.
        scanned_gb: what the queries of one run read, of all contracts.
        trainings: how many runs train.
        requests: to the serving service.
        request_ms: how long one request keeps a container busy.
        images_gb: what the registry holds.
        logs_gb: what a month's runs and requests write into Cloud Logging.
        mlflow_hours: how long the tracking server is busy in a month, beyond instances that are always there.
    """

    landed_gb: float = Field(default=1.0, ge=0)
    warehouse_gb: float = Field(default=5.0, ge=0)
    scanned_gb: float = Field(default=1.0, ge=0)
    minutes: Minutes = Minutes()
    trainings: int = Field(default=2, ge=0)
    requests: int = Field(default=10_000, ge=0)
    request_ms: float = Field(default=50.0, gt=0)
    mlflow_hours: float = Field(default=20.0, ge=0)
    images_gb: float = Field(default=5.0, ge=0)
    logs_gb: float = Field(default=1.0, ge=0)


class Cloud(Section):
    """A Google Cloud project that holds one environment.

    Attributes:
        region: where everything runs.
        project: its id; one project an environment, so that nothing can reach across.
        project_number: its number; the address of a Cloud Run service contains it.
        protected: whether tables, the database and buckets refuse to be destroyed.
        alarm_emails: who is told; an environment that tells nobody is refused.
        callers: who may call the serving service, such as `serviceAccount:wallet@bank.iam.gserviceaccount.com`.
        labels: on every resource that takes labels, for the bill.
    """

    project: str = Field(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$")
    project_number: str = Field(pattern=r"^\d{6,}$")
    region: str = Field(pattern=r"^[a-z]+-[a-z]+\d+$")
    protected: bool = True
    github: GitHub
    network: Network = Network()
    sizes: Sizes = Sizes()
    start: Start = Start()
    retention: Retention = Retention()
    budget: Budget
    workload: Workload = Workload()
    alarm_emails: tuple[Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")], ...] = Field(min_length=1)
    callers: tuple[Annotated[str, Field(pattern=r"^(user|group|serviceAccount):[^@\s]+@[^@\s]+$")], ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
