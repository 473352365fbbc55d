"""Stand-ins for the Google Cloud APIs that the workflow calls, on one local HTTP server.

They are written from the APIs' documentation, not from the compiler: an address that the compiler makes up is
answered with 404. Each service that runs a step does it as the real one does, through `caudal.unit.run_step`,
with storage that is this server's own.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from caudal.contract import Contract
from caudal.environment import Environment
from caudal.errors import AlreadyExists, CaudalError, NotFound
from caudal.step import Run, StepContext
from caudal.storage import Storage, StoredObject
from caudal.unit import RecordedResults, run_step

StepBehaviour = Callable[[StepContext], dict[str, Any]]

ENVIRONMENT = """
environment: 1
name: test
places: {landing: "gs://bank-landing", artifacts: "gs://bank-artifacts", models: "gs://bank-models"}
warehouse: bigquery:bank-test
tracking: https://mlflow.example
alarms: [{type: log}]
"""
NUMBER, PROJECT, REGION, WORKFLOW = "4711", "bank-test", "europe-west1", "caudal-payments"


def execution_name(execution: str) -> str:
    return f"projects/{NUMBER}/locations/{REGION}/workflows/{WORKFLOW}/executions/{execution}"


class Buckets(Storage):
    """Objects with generations, in memory; the HTTP API and the steps see the same ones."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, bytes]] = {}
        self._lock = threading.RLock()
        self._generation = 0

    def put(self, uri: str, data: bytes, generation: int | None = None) -> int | None:
        """Writes at a generation (0: there is none); gives the new one, or None when the old one is another."""
        with self._lock:
            if generation is not None and self.generation(uri) != generation:
                return None
            self._generation += 1
            self._held[uri] = (self._generation, data)
            return self._generation

    def generation(self, uri: str) -> int:
        return self._held.get(uri, (0, b""))[0]

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        return map(self.describe, sorted(uri for uri in self._held if uri.startswith(prefix.rstrip("/") + "/")))

    def describe(self, uri: str) -> StoredObject:
        generation, data = self._held[uri]
        return StoredObject(uri, "memory", uri, str(generation), len(data), datetime(2024, 1, 1, tzinfo=UTC))

    @contextmanager
    def open(self, uri: str) -> Iterator[BinaryIO]:
        if uri not in self._held:
            raise NotFound("there is no such object", where=uri)
        yield BytesIO(self._held[uri][1])

    @contextmanager
    def writer(self, uri: str) -> Iterator[BinaryIO]:
        stream = BytesIO()
        yield stream
        self.put(uri, stream.getvalue())

    def create(self, uri: str, data: bytes) -> None:
        if self.put(uri, data, 0) is None:
            raise AlreadyExists("there is one", where=uri)

    def exists(self, uri: str) -> bool:
        return uri in self._held

    def delete(self, uri: str) -> None:
        with self._lock:
            self._held.pop(uri, None)

    def names(self, folder: str) -> list[str]:
        prefix = folder.rstrip("/") + "/"
        return sorted({uri[len(prefix) :].split("/")[0] for uri in self._held if uri.startswith(prefix)})


@dataclass
class Job:
    """A job that some service runs; `looks` of its state are answered with running first."""

    thread: threading.Thread
    looks: int = 2
    ended: str | None = None
    cancelled: bool = False


@dataclass
class Cloud:
    """The project: its objects, jobs and executions, and every request that was made.

    Attributes:
        behave: what a step does.
        faults: answers for the next requests whose path contains the text, as (text, status).
        hang: steps whose jobs never end.
    """

    contract: Contract
    environment: Environment
    behave: Callable[[str], StepBehaviour]
    buckets: Buckets = field(default_factory=Buckets)
    executions: dict[str, str] = field(default_factory=dict)
    faults: list[tuple[str, int]] = field(default_factory=list)
    hang: set[str] = field(default_factory=set)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)

    def run_unit(self, step: str, config: str, run_uri: str) -> dict[str, Any]:
        """What a unit does with its arguments."""
        run = Run.from_json(self.buckets.read_json(f"{run_uri}/run.json"))
        assert config == run.config
        context = StepContext(self.contract, self.environment, run, RecordedResults(self.buckets, run))
        vars(context)["storage"] = self.buckets
        return run_step(step, self.behave(step), context)

    def start(self, step: str, config: str, run_uri: str) -> str:
        name = f"job-{len(self.jobs) + 1}"

        def work() -> None:
            try:
                self.run_unit(step, config, run_uri)
            except Exception:
                self.jobs[name].ended = "failed"
            else:
                self.jobs[name].ended = "done"

        idle = threading.Thread(target=lambda: None)
        self.jobs[name] = Job(idle if step in self.hang else threading.Thread(target=work, daemon=True))
        self.jobs[name].thread.start()
        return name

    def state(self, name: str) -> str:
        job = self.jobs[name]
        job.looks -= 1
        if job.cancelled:
            return "cancelled"
        if job.looks > 0:
            return "running"
        job.thread.join(10)
        return job.ended or "running"

    def handle(
        self, verb: str, host: str, path: str, query: dict[str, str], auth: str, body: Any
    ) -> tuple[int, Any]:
        """Answers a request with a status and a body."""
        self.requests.append((verb, f"{host}{path}", body))
        for index, (text, status) in enumerate(self.faults):
            if text in path:
                del self.faults[index]
                return status, {"error": {"code": status}}
        if host.endswith(".cloudfunctions.net"):
            if auth != f"OIDC https://{host}{path}":
                return 401, {}
            return self._function(body)
        if auth != "OAuth2":
            return 401, {}
        for pattern, answer in self._routes(host):
            if match := re.fullmatch(pattern, f"{verb} {path}"):
                return answer(query, body, *map(unquote, match.groups()))
        return 404, {"error": {"message": f"no such address: {verb} {host}{path}"}}

    def _function(self, body: Any) -> tuple[int, Any]:
        try:
            return 200, self.run_unit("ingest", body["config"], body["run"])
        except CaudalError as error:
            return (400 if error.exit_status == 2 else 503 if error.transient else 500), {"error": error.what}
        except Exception:
            return 500, "crashed"

    def _routes(self, host: str) -> list[tuple[str, Callable[..., tuple[int, Any]]]]:
        place = f"projects/{PROJECT}/locations/{REGION}"
        return {
            "storage.googleapis.com": [
                (r"GET /storage/v1/b/([^/]+)/o/(.+)", self._get_object),
                (r"DELETE /storage/v1/b/([^/]+)/o/(.+)", self._delete_object),
                (r"POST /upload/storage/v1/b/([^/]+)/o", self._insert_object),
            ],
            "workflowexecutions.googleapis.com": [(r"GET /v1/(projects/.+/executions/[^/]+)", self._execution)],
            "dataflow.googleapis.com": [
                (rf"POST /v1b3/{place}/flexTemplates:launch", self._launch),
                (rf"GET /v1b3/{place}/jobs/([^/]+)", self._dataflow_job),
                (rf"PUT /v1b3/{place}/jobs/([^/]+)", self._cancel),
            ],
            f"{REGION}-aiplatform.googleapis.com": [
                (rf"POST /v1/{place}/customJobs", self._custom_job),
                (rf"GET /v1/{place}/customJobs/([^/]+)", self._custom_job_state),
                (rf"POST /v1/{place}/customJobs/([^/]+):cancel", self._cancel),
            ],
            "run.googleapis.com": [
                (rf"POST /v2/{place}/jobs/([^/]+):run", self._run_job),
                (rf"GET /v2/{place}/jobs/[^/]+/executions/([^/]+)", self._run_execution),
                (rf"POST /v2/{place}/jobs/[^/]+/executions/([^/]+):cancel", self._cancel),
            ],
        }.get(host, [])

    def _get_object(self, query: dict[str, str], _: Any, bucket: str, name: str) -> tuple[int, Any]:
        uri = f"gs://{bucket}/{name}"
        if not self.buckets.exists(uri):
            return 404, {}
        if query.get("alt") == "media":
            # As gcsfs writes them: without a content type that says JSON.
            return 200, self.buckets.read(uri)
        return 200, {"generation": str(self.buckets.generation(uri))}

    def _delete_object(self, query: dict[str, str], _: Any, bucket: str, name: str) -> tuple[int, Any]:
        uri = f"gs://{bucket}/{name}"
        if not self.buckets.exists(uri):
            return 404, {}
        if query.get("ifGenerationMatch", str(self.buckets.generation(uri))) != str(self.buckets.generation(uri)):
            return 412, {}
        self.buckets.delete(uri)
        return 204, {}

    def _insert_object(self, query: dict[str, str], body: Any, bucket: str) -> tuple[int, Any]:
        assert query["uploadType"] == "media"
        expected = query.get("ifGenerationMatch")
        uri = f"gs://{bucket}/{query['name']}"
        written = self.buckets.put(uri, json.dumps(body).encode(), None if expected is None else int(expected))
        return (412, {}) if written is None else (200, {"generation": str(written)})

    def _execution(self, _: Any, __: Any, name: str) -> tuple[int, Any]:
        return (200, {"state": self.executions[name]}) if name in self.executions else (404, {})

    def _launch(self, _: Any, body: Any) -> tuple[int, Any]:
        launch = body["launchParameter"]
        assert launch["containerSpecGcsPath"] == "gs://bank-artifacts/templates/etl_beam/1.json"
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?", launch["jobName"])
        return 200, {"job": {"id": self.start("etl", launch["parameters"]["config"], launch["parameters"]["run"])}}

    def _dataflow_job(self, _: Any, __: Any, name: str) -> tuple[int, Any]:
        state = self.state(name)
        # A job that was just launched has no state yet.
        known = {"done": "DONE", "failed": "FAILED", "cancelled": "CANCELLED"}
        return 200, {"currentState": f"JOB_STATE_{known[state]}"} if state in known else {}

    def _custom_job(self, _: Any, body: Any) -> tuple[int, Any]:
        container = body["jobSpec"]["workerPoolSpecs"][0]["containerSpec"]
        assert container["imageUri"] == "registry/trainer@sha256:1"
        job = self.start(*self._arguments(container["args"]))
        return 200, {"name": f"projects/{PROJECT}/locations/{REGION}/customJobs/{job}"}

    def _custom_job_state(self, _: Any, __: Any, name: str) -> tuple[int, Any]:
        known = {"done": "SUCCEEDED", "failed": "FAILED", "cancelled": "CANCELLED", "running": "RUNNING"}
        return 200, {"state": f"JOB_STATE_{known[self.state(name)]}"}

    def _run_job(self, _: Any, body: Any, job: str) -> tuple[int, Any]:
        (override,) = body["overrides"]["containerOverrides"]
        name = self.start(*self._arguments(override["args"]))
        execution = f"projects/{PROJECT}/locations/{REGION}/jobs/{job}/executions/{name}"
        return 200, {"name": "operations/1", "metadata": {"name": execution}}

    def _run_execution(self, _: Any, __: Any, name: str) -> tuple[int, Any]:
        state = self.state(name)
        execution: dict[str, Any] = {"taskCount": 1, "runningCount": 1}
        if state != "running":
            execution = {"taskCount": 1, "completionTime": "2026-11-23T00:00:00Z"}
            execution |= {"succeededCount": 1} if state == "done" else {"failedCount": 1}
        return 200, execution

    def _cancel(self, _: Any, __: Any, name: str) -> tuple[int, Any]:
        self.jobs[name].cancelled = True
        return 200, {}

    @staticmethod
    def _arguments(arguments: list[str]) -> tuple[str, str, str]:
        step, config_flag, config, run_flag, run = arguments
        assert (config_flag, run_flag) == ("--config", "--run")
        return step, config, run


@contextmanager
def serve(cloud: Cloud) -> Iterator[str]:
    """Serves the stand-ins; gives their address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            _, host, path = parts.path.split("/", 2)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            status, value = cloud.handle(
                self.command, host, f"/{path}", query, self.headers.get("X-Auth", ""), body
            )
            raw = isinstance(value, bytes)
            data = value if raw else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/octet-stream" if raw else "application/json")
            self.send_header("Content-Length", "0" if status == 204 else str(len(data)))
            self.end_headers()
            if status != 204:
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing: the tests look at `Cloud.requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
