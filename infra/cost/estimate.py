"""A month's cost, from the synthesized stacks, the schedules and the expected workload.

Idle is a month in which nothing runs and nobody asks: what is there all the same. Running adds the workload of the
environment's file. Storage is in both, since data stays when runs don't.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from caudal.cloud_environment import Cloud
from infra.cost.cron import starts_a_month
from infra.cost.prices import Prices, UnknownPrice

HOURS = 730.0
SECONDS = HOURS * 3600
# An assumption, and a generous one: nine steps of the table, each with its requests, and a poll every half minute.
STEPS_A_RUN = 1000
MACHINE = re.compile(r"^(?P<family>[a-z]\d[a-z]?)-(?P<shape>standard|highmem|highcpu)-(?P<vcpus>\d+)$")
GB_A_VCPU = {"standard": 4.0, "highmem": 8.0, "highcpu": 1.0}

Stacks = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Item:
    """A line of the estimate.

    Attributes:
        what: the resource.
        idle: USD in a month without runs.
        running: USD that the workload adds.
        how: how it was reckoned.
        prices: the names of the prices in it.
    """

    what: str
    idle: float
    running: float
    how: str
    prices: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """A month of one environment."""

    environment: str
    items: tuple[Item, ...]
    idle_limit: float
    running_limit: float
    unsourced: Mapping[str, str] = field(default_factory=dict)

    @property
    def idle(self) -> float:
        return sum(item.idle for item in self.items)

    @property
    def running(self) -> float:
        return self.idle + sum(item.running for item in self.items)

    @property
    def exceeded(self) -> list[str]:
        """Which limits of the environment are exceeded, in words."""
        found = []
        if self.idle > self.idle_limit:
            found.append(f"idle: {self.idle:.2f} USD is above the limit of {self.idle_limit:.2f}")
        if self.running > self.running_limit:
            found.append(f"running: {self.running:.2f} USD is above the limit of {self.running_limit:.2f}")
        return found


def estimate(environment: str, cloud: Cloud, stacks: Stacks, prices: Prices) -> Estimate:
    """Estimates a month.

    Args:
        stacks: the synthesized documents by stack.

    Raises:
        UnknownPrice: the stacks hold a machine or tier that has no price.
    """
    reckoner = _Reckoner(cloud, stacks, prices)
    items = tuple(reckoner.items())
    used = {name for item in items for name in item.prices}
    unsourced = {name: prices[name].unsourced for name in sorted(used) if prices[name].unsourced}
    return Estimate(environment, items, cloud.budget.idle_limit, cloud.budget.running_limit, unsourced)


def machine(name: str) -> tuple[str, float, float]:
    """Family, vCPUs and GB of a machine type such as `n2-standard-4`.

    Raises:
        UnknownPrice: its name does not tell.
    """
    match = MACHINE.match(name)
    if match is None:
        raise UnknownPrice(
            f"the machine type '{name}' does not tell its size", mend="choose one such as n2-standard-4"
        )
    vcpus = float(match["vcpus"])
    return match["family"], vcpus, vcpus * GB_A_VCPU[match["shape"]]


class _Reckoner:
    def __init__(self, cloud: Cloud, stacks: Stacks, prices: Prices) -> None:
        self._cloud = cloud
        self._stacks = stacks
        self._prices = prices
        schedules = self._resources("google_cloud_scheduler_job").values()
        self._runs = sum(0.0 if s.get("paused") else starts_a_month(s["schedule"]) for s in schedules)

    def _resources(self, kind: str) -> dict[str, Mapping[str, Any]]:
        return {
            f"{stack}/{name}": resource
            for stack, document in self._stacks.items()
            for name, resource in document.get("resource", {}).get(kind, {}).items()
        }

    def _usd(self, name: str) -> float:
        return self._prices[name].usd

    def items(self) -> Iterator[Item]:
        """Every line, service by service."""
        parts: tuple[Callable[[], Iterator[Item]], ...] = (
            self._databases,
            self._services,
            self._jobs,
            self._functions,
            self._dataflow,
            self._training,
            self._workflows,
            self._tables,
            self._objects,
            self._watching,
        )
        for part in parts:
            yield from part()

    def _databases(self) -> Iterator[Item]:
        for instance in self._resources("google_sql_database_instance").values():
            settings = instance["settings"]
            tier, disk = settings["tier"], settings["disk_size"]
            zones = 2 if settings["availability_type"] == "REGIONAL" else 1
            custom = re.fullmatch(r"db-custom-(\d+)-(\d+)", tier)
            if custom:
                vcpus, memory = int(custom[1]), int(custom[2]) / 1024
                hourly = vcpus * self._usd("sql.vcpu") + memory * self._usd("sql.memory")
                names: tuple[str, ...] = ("sql.vcpu", "sql.memory")
            else:
                hourly, names = self._usd(f"sql.{tier}"), (f"sql.{tier}",)
            # Backups are increments: together about one more disk.
            stored = disk * (zones * self._usd("sql.disk") + self._usd("sql.backup"))
            yield Item(
                f"Cloud SQL {instance['name']}",
                hourly * HOURS * zones + stored,
                0.0,
                f"{tier} x {zones}, {disk} GB of disk and as much of backups",
                (*names, "sql.disk", "sql.backup"),
            )

    def _services(self) -> Iterator[Item]:
        services = self._resources("google_cloud_run_v2_service")
        serving = [s for s in services.values() if "-serving-" in s["name"]]
        for service in services.values():
            template = service["template"]
            vcpus, memory = _size(template["containers"])
            at_least = template["scaling"].get("min_instance_count", 0)
            a_second = vcpus * self._usd("run.idle.vcpu") + memory * self._usd("run.idle.memory")
            busy_second = vcpus * self._usd("run.request.vcpu") + memory * self._usd("run.request.memory")
            workload = self._cloud.workload
            if service in serving:
                requests = workload.requests / len(serving)
                seconds = requests * workload.request_ms / 1000
                asked = requests / 1e6 * self._usd("run.request.million")
                how = f"{at_least} always there; {requests:,.0f} requests of {workload.request_ms:g} ms"
            else:
                seconds, asked = workload.mlflow_hours * 3600, 0.0
                how = f"{at_least} always there; busy for {workload.mlflow_hours:g} hours"
            yield Item(
                f"Cloud Run {service['name']}",
                at_least * a_second * SECONDS,
                seconds * busy_second + asked,
                f"{vcpus:g} vCPU, {memory:g} GiB, {how}",
                (
                    "run.idle.vcpu",
                    "run.idle.memory",
                    "run.request.vcpu",
                    "run.request.memory",
                    "run.request.million",
                ),
            )

    def _jobs(self) -> Iterator[Item]:
        minutes = self._cloud.workload.minutes
        for job in self._resources("google_cloud_run_v2_job").values():
            unit = job["name"].removeprefix("caudal-").replace("-", "_")
            vcpus, memory = _size(job["template"]["template"]["containers"])
            tasks = job["template"].get("task_count", 1)
            runs = self._cloud.workload.trainings if unit == "trainer" else self._runs
            seconds = runs * getattr(minutes, unit) * 60
            a_second = vcpus * self._usd("run.job.vcpu") + memory * self._usd("run.job.memory")
            yield Item(
                f"Cloud Run job {job['name']}",
                0.0,
                seconds * tasks * a_second,
                f"{runs:.1f} runs of {getattr(minutes, unit):g} min x {tasks}, {vcpus:g} vCPU, {memory:g} GiB",
                ("run.job.vcpu", "run.job.memory"),
            )

    def _functions(self) -> Iterator[Item]:
        for function in self._resources("google_cloudfunctions2_function").values():
            settings = function["service_config"]
            vcpus, memory = float(settings["available_cpu"]), _gib(settings["available_memory"])
            minutes = self._cloud.workload.minutes.ingest_function
            a_second = vcpus * self._usd("run.request.vcpu") + memory * self._usd("run.request.memory")
            yield Item(
                f"Function {function['name']}",
                0.0,
                self._runs * minutes * 60 * a_second,
                f"{self._runs:.1f} runs of {minutes:g} min, {vcpus:g} vCPU, {memory:g} GiB",
                ("run.request.vcpu", "run.request.memory"),
            )

    def _dataflow(self) -> Iterator[Item]:
        size, workload = self._cloud.sizes.etl_beam, self._cloud.workload
        _, vcpus, memory = machine(size.machine_type)
        hours = self._runs * workload.minutes.etl_beam / 60 * size.workers
        hourly = (
            vcpus * self._usd("dataflow.vcpu")
            + memory * self._usd("dataflow.memory")
            + size.disk_gb * self._usd("dataflow.disk")
        )
        shuffled = workload.landed_gb * self._usd("dataflow.shuffle")
        yield Item(
            "Dataflow",
            0.0,
            hours * hourly + shuffled,
            f"{self._runs:.1f} runs of {workload.minutes.etl_beam:g} min x {size.workers} {size.machine_type}",
            ("dataflow.vcpu", "dataflow.memory", "dataflow.disk", "dataflow.shuffle"),
        )

    def _training(self) -> Iterator[Item]:
        size, workload = self._cloud.sizes.training, self._cloud.workload
        family, vcpus, memory = machine(size.machine_type)
        names = (f"vertex.{family}.vcpu", f"vertex.{family}.memory")
        hours = workload.trainings * workload.minutes.training / 60
        yield Item(
            "Vertex AI training",
            0.0,
            hours * (vcpus * self._usd(names[0]) + memory * self._usd(names[1])),
            f"{workload.trainings} trainings of {workload.minutes.training:g} min on {size.machine_type}",
            names,
        )

    def _workflows(self) -> Iterator[Item]:
        schedules = self._resources("google_cloud_scheduler_job")
        yield Item(
            "Workflows and Scheduler",
            len(schedules) * self._usd("scheduler.job"),
            self._runs * STEPS_A_RUN / 1000 * self._usd("workflows.steps"),
            f"{len(schedules)} schedules, {self._runs:.1f} runs of at most {STEPS_A_RUN} steps",
            ("scheduler.job", "workflows.steps"),
        )

    def _tables(self) -> Iterator[Item]:
        workload = self._cloud.workload
        scanned = self._runs * workload.scanned_gb / 1000
        yield Item(
            "BigQuery",
            workload.warehouse_gb * self._usd("bigquery.storage"),
            scanned * self._usd("bigquery.query"),
            f"{workload.warehouse_gb:g} GB kept, {scanned:.2f} TB scanned",
            ("bigquery.storage", "bigquery.query"),
        )

    def _objects(self) -> Iterator[Item]:
        workload = self._cloud.workload
        # What landed stays; Parquet, packages and snapshots are about as much again.
        kept = 2 * workload.landed_gb
        yield Item(
            "Cloud Storage and images",
            kept * self._usd("storage.standard") + workload.images_gb * self._usd("registry.storage"),
            0.0,
            f"{kept:g} GB of objects, {workload.images_gb:g} GB of images",
            ("storage.standard", "registry.storage"),
        )

    def _watching(self) -> Iterator[Item]:
        policies = self._resources("google_monitoring_alert_policy").values()
        conditions = sum(len(policy["conditions"]) for policy in policies)
        logs = self._cloud.workload.logs_gb
        yield Item(
            "Logs and alerts",
            conditions * self._usd("monitoring.condition"),
            logs * self._usd("logging.volume"),
            f"{conditions} conditions, {logs:g} GB of logs",
            ("monitoring.condition", "logging.volume"),
        )


def _size(containers: list[Mapping[str, Any]]) -> tuple[float, float]:
    limits = [container["resources"]["limits"] for container in containers]
    return sum(float(limit["cpu"]) for limit in limits), sum(_gib(limit["memory"]) for limit in limits)


def _gib(text: str) -> float:
    number, unit = float(text[:-2]), text[-2:]
    return number / 1024 if unit == "Mi" else number
