"""What everything on Google Cloud is called: one project an environment, so names need no environment in them.

Stacks know one another's resources by these names and never by a state: any stack can be planned before another is
applied, and nobody needs to read another's state. The workflow's compiler and the release use the same names.
"""

from __future__ import annotations

from dataclasses import dataclass

from caudal.cloud_environment import Cloud

PREFIX = "caudal"
REPOSITORY = "caudal"
# Google's builder moves tags as it caches, so functions have a registry in which tags may move.
FUNCTION_REPOSITORY = "caudal-functions"
NETWORK = "caudal"

# Top-level folders of the artifacts bucket; each is a managed folder with grants of its own.
FOLDERS = ("config", "ledger", "quarantine", "runs", "snapshots", "staging", "states", "units")


def hyphened(unit: str) -> str:
    """`ingest_function` as resources spell it: `ingest-function`."""
    return unit.replace("_", "-")


@dataclass(frozen=True)
class CloudNames:
    """Names and addresses in one environment's project."""

    cloud: Cloud

    @property
    def project(self) -> str:
        return self.cloud.project

    @property
    def region(self) -> str:
        return self.cloud.region

    def account_id(self, unit: str) -> str:
        """The service account that a unit runs as, without its domain; at most 30 characters."""
        return f"{PREFIX}-{hyphened(unit)}"

    def account(self, unit: str) -> str:
        """The e-mail address of the service account that a unit runs as."""
        return f"{self.account_id(unit)}@{self.project}.iam.gserviceaccount.com"

    def bucket(self, place: str) -> str:
        """A bucket: `landing`, `artifacts`, `models`, `mlflow`, `temp`, `releases`, `logs` or `state`."""
        return f"{self.project}-{place}"

    def resource(self, unit: str) -> str:
        """A unit's function, job or service."""
        return f"{PREFIX}-{hyphened(unit)}"

    def serving(self, contract: str) -> str:
        """The serving service of a contract."""
        return f"{PREFIX}-serving-{hyphened(contract)}"

    def service_url(self, unit: str) -> str:
        """Where a unit's Cloud Run service answers; known before the service exists."""
        return f"https://{self.resource(unit)}-{self.cloud.project_number}.{self.region}.run.app"

    @property
    def function_url(self) -> str:
        """Where the ingest function answers: the Cloud Run service beneath it, as its internal ingress asks."""
        return self.service_url("ingest_function")

    def job(self, unit: str) -> str:
        """The full name of a unit's Cloud Run job."""
        return f"projects/{self.project}/locations/{self.region}/jobs/{self.resource(unit)}"

    def image(self, unit: str, digest: str) -> str:
        """An image by its digest (`sha256:...`)."""
        return f"{self.region}-docker.pkg.dev/{self.project}/{REPOSITORY}/{hyphened(unit)}@{digest}"

    def archive(self, unit: str, digest: str) -> str:
        """The object in the releases bucket that holds a function's sources."""
        return f"{unit}/{digest.removeprefix('sha256:')}.zip"

    def template(self, unit: str, digest: str) -> str:
        """The object in the artifacts bucket that describes a Flex Template; one for each image."""
        return f"units/{unit}/{digest.removeprefix('sha256:')}.json"

    def template_uri(self, unit: str, digest: str) -> str:
        """A Flex Template as Dataflow is given it."""
        return f"gs://{self.bucket('artifacts')}/{self.template(unit, digest)}"

    def workflow(self, contract: str) -> str:
        """The workflow of a contract."""
        return f"{PREFIX}-{hyphened(contract)}"

    @property
    def subnetwork(self) -> str:
        """The subnetwork as Dataflow wants it."""
        return f"regions/{self.region}/subnetworks/{NETWORK}"

    @property
    def database_instance(self) -> str:
        return f"{PREFIX}-mlflow"

    @property
    def database_connection(self) -> str:
        """How Cloud SQL's proxy names the instance."""
        return f"{self.project}:{self.region}:{self.database_instance}"
