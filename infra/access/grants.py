"""The grants that follow from the step table and the units' declarations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from caudal.cloud_names import FUNCTION_REPOSITORY, REPOSITORY
from infra.access.declarations import BUCKETS, DATASETS, FOLDERS, Declarations
from infra.access.roles import Scope
from pipeline.steps import Step
from pipeline.workflow.targets import service_of

WORKFLOW = "workflow"
SCHEDULER = "scheduler"
BUILDER = "builder"

# What runs only when somebody calls it, and what a person or CI never deploys by itself.
SERVICES = ("mlflow_server", "serving")


@dataclass(frozen=True, order=True)
class Grant:
    """A role of one account on one resource.

    Attributes:
        account: the unit whose service account is granted; with `member`, whoever else.
        scope: the kind of resource.
        resource: its short name: a place, a unit, or empty for the project.
        why: what it follows from.
    """

    account: str
    role: str
    scope: Scope
    resource: str = ""
    why: str = ""

    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same grant, whatever it follows from."""
        return (self.account, self.role, self.scope, self.resource)


def derive(
    steps: Sequence[Step], declarations: Declarations, *, model_registry: bool = False
) -> tuple[Grant, ...]:
    """Every grant of every unit, of the workflow and of the scheduler, each once and in order.

    Args:
        model_registry: Vertex AI's follows the ledger in this environment.
    """
    units = sorted({step.unit for step in steps})
    found = [
        *(grant for unit in (*units, *SERVICES) for grant in _of_unit(unit, declarations, model_registry)),
        *_of_runtimes(steps),
        *_of_workflow(steps),
        Grant(SCHEDULER, "roles/workflows.invoker", "project", why="it starts the workflow"),
    ]
    once = {grant.key(): grant for grant in reversed(found)}
    return tuple(sorted(once.values()))


def _of_unit(unit: str, declarations: Declarations, model_registry: bool) -> Iterator[Grant]:
    declaration = declarations[unit]
    for place in declaration.only_reads:
        yield from _place(unit, place, "reads", "roles/storage.objectViewer", "roles/bigquery.dataViewer")
    for place in declaration.writes:
        if place == "database":
            yield Grant(unit, "roles/cloudsql.client", "project", why="it writes the database")
            yield Grant(unit, "roles/cloudsql.instanceUser", "project", why="it writes the database")
        else:
            yield from _place(unit, place, "writes", "roles/storage.objectUser", "roles/bigquery.dataEditor")
    for service in declaration.calls:
        if service != "model_registry":
            yield Grant(unit, "roles/run.invoker", "service", service, f"it calls {service}")
        elif model_registry:
            yield Grant(unit, "roles/aiplatform.user", "project", why="it registers what is promoted")


def _place(unit: str, place: str, does: str, object_role: str, table_role: str) -> Iterator[Grant]:
    why = f"it {does} {place}"
    if place in BUCKETS:
        yield Grant(unit, object_role, "bucket", place, why)
    elif place in FOLDERS:
        yield Grant(unit, object_role, "folder", place, why)
    elif place in DATASETS:
        yield Grant(unit, table_role, "dataset", place, why)
        yield Grant(unit, "roles/bigquery.jobUser", "project", why="queries and loads are jobs")
        # Rows are read as Arrow streams, by writers too: they read what they replace.
        yield Grant(unit, "roles/bigquery.readSessionUser", "project", why="it reads rows as Arrow streams")


def _of_runtimes(steps: Iterable[Step]) -> Iterator[Grant]:
    """What the service that runs a unit asks of the unit's account."""
    for step in steps:
        if service_of(step) == "template":
            yield Grant(step.unit, "roles/dataflow.worker", "project", why="it runs as Dataflow workers")
            yield Grant(
                step.unit,
                "roles/artifactregistry.reader",
                "repository",
                REPOSITORY,
                "Dataflow workers pull the image",
            )
            yield Grant(step.unit, "roles/storage.objectUser", "bucket", "temp", "Dataflow's temporary files")
            yield Grant(step.unit, "roles/storage.objectViewer", "folder", "units", "its template is read there")
        if service_of(step) == "function":
            yield Grant(BUILDER, "roles/logging.logWriter", "project", why="the build writes its log")
            yield Grant(
                BUILDER,
                "roles/artifactregistry.writer",
                "repository",
                FUNCTION_REPOSITORY,
                "the build pushes the image",
            )
            yield Grant(BUILDER, "roles/storage.objectViewer", "bucket", "releases", "the build reads the sources")


def _of_workflow(steps: Iterable[Step]) -> Iterator[Grant]:
    """What the workflow does: it starts what runs the steps, reads what they found and records the run."""
    for step in steps:
        service, why = service_of(step), f"it starts the step {step.name}"
        if service == "function":
            yield Grant(WORKFLOW, "roles/run.invoker", "service", step.unit, why)
        elif service == "job":
            yield Grant(WORKFLOW, "roles/run.jobsExecutorWithOverrides", "job", step.unit, why)
        elif service == "template":
            yield Grant(WORKFLOW, "roles/dataflow.developer", "project", why=why)
            yield Grant(WORKFLOW, "roles/iam.serviceAccountUser", "account", step.unit, why)
            yield Grant(
                WORKFLOW, "roles/storage.objectUser", "bucket", "temp", "Dataflow checks the launcher's access"
            )
        else:
            yield Grant(WORKFLOW, "roles/aiplatform.user", "project", why=why)
            yield Grant(WORKFLOW, "roles/iam.serviceAccountUser", "account", step.unit, why)
    yield Grant(WORKFLOW, "roles/storage.objectViewer", "folder", "config", "it fixes the run's configuration")
    yield Grant(WORKFLOW, "roles/storage.objectViewer", "folder", "units", "Dataflow reads the template for it")
    yield Grant(WORKFLOW, "roles/storage.objectUser", "folder", "runs", "it records the run")
    yield Grant(WORKFLOW, "roles/storage.objectUser", "folder", "ledger", "the lock of a contract's runs is there")
    yield Grant(
        WORKFLOW, "roles/workflows.viewer", "project", why="it asks whether the lock's execution is active"
    )
    yield Grant(WORKFLOW, "roles/logging.logWriter", "project", why="it writes its log")
