"""The stand-in provider: Terraform's plugin protocol 6 over gRPC.

Terraform starts it, through the wrapper that `rehearse` writes. The protocol is described in
https://developer.hashicorp.com/terraform/plugin/terraform-plugin-protocol; its messages come from the package
`tf`, which has an environment of its own (requirements/rehearsal.txt).
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from concurrent import futures
from functools import lru_cache
from pathlib import Path
from typing import Any

import grpc
import msgpack
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tf.gen import tfplugin_pb2 as pb

from infra.rehearsal import cloud as make_believe
from infra.rehearsal.plan import UNKNOWN, Finding, check, filled, planned_state, replaced_by
from infra.rehearsal.schema import Block, Kind, SchemaFile

SCHEMA_FILE = "schema.sqlite"
RESPONSE_FILE = "schema.pb"


def decode(value: Any) -> Any:
    """A value of the protocol as plain values, UNKNOWN where it is not known yet."""
    if value.msgpack:
        return msgpack.unpackb(value.msgpack, strict_map_key=False, ext_hook=lambda code, data: UNKNOWN)
    return json.loads(value.json) if value.json else None


def encode(value: Any) -> Any:
    def unknown(inner: Any) -> Any:
        if inner is UNKNOWN:
            return msgpack.ExtType(0, b"\x00")
        raise TypeError(f"{inner!r} is no value of Terraform's")

    return pb.DynamicValue(msgpack=msgpack.packb(value, default=unknown))


def diagnostic(finding: Finding, detail: str = "") -> Any:
    steps = [
        pb.AttributePath.Step(element_key_int=part)
        if isinstance(part, int)
        else pb.AttributePath.Step(attribute_name=part)
        for part in finding.path
    ]
    return pb.Diagnostic(
        severity=pb.Diagnostic.ERROR,
        summary=finding.message,
        detail=detail,
        attribute=pb.AttributePath(steps=steps),
    )


def schema_response(schemas: SchemaFile) -> bytes:
    """The answer to GetProviderSchema, made once: 1,096 resources take a second."""
    response = pb.GetProviderSchema.Response()
    response.server_capabilities.get_provider_schema_optional = True
    for kind, name, block in schemas.all():
        if kind == "provider":
            for attribute in block.attributes.values():
                attribute.mode, attribute.also_computed = "optional", False
            response.provider.block.CopyFrom(_block(block))
        else:
            found = response.resource_schemas if kind == "resource" else response.data_source_schemas
            found[name].block.CopyFrom(_block(block))
    message: bytes = response.SerializeToString()
    return message


def _block(block: Block) -> Any:
    return pb.Schema.Block(
        attributes=[
            pb.Schema.Attribute(
                name=name,
                type=json.dumps(attribute.type).encode(),
                required=attribute.mode == "required",
                optional=attribute.mode == "optional",
                computed=_may_compute(attribute.mode, attribute.also_computed),
                sensitive=attribute.sensitive,
            )
            for name, attribute in block.attributes.items()
        ],
        block_types=[
            pb.Schema.NestedBlock(
                type_name=name,
                nesting=nested.nesting,
                min_items=nested.least,
                max_items=nested.most,
                block=_block(nested.block),
            )
            for name, nested in block.blocks.items()
        ],
    )


def _may_compute(mode: str, also_computed: bool | None) -> bool:
    return mode != "required" if also_computed is None else also_computed


class Provider:
    """The methods of `tfplugin6.Provider`, by their names in the protocol."""

    def __init__(self, schema_folder: Path, cloud: make_believe.Cloud) -> None:
        self._response = schema_folder / RESPONSE_FILE
        self._schemas = SchemaFile(schema_folder / SCHEMA_FILE)
        self._cloud = cloud
        self._configured: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._block = lru_cache(maxsize=None)(self._read_block)

    def _read_block(self, kind: Kind, name: str) -> Block:
        with self._lock:
            return self._schemas.block(kind, name)

    def _project(self) -> str | None:
        return self._configured.get("project")

    def GetProviderSchema(self, request: Any) -> bytes:  # noqa: N802
        return self._response.read_bytes()

    def ValidateProviderConfig(self, request: Any) -> Any:  # noqa: N802
        return pb.ValidateProviderConfig.Response()

    def ConfigureProvider(self, request: Any) -> Any:  # noqa: N802
        config = decode(request.config) or {}
        self._configured.update({k: v for k, v in config.items() if v is not None and v is not UNKNOWN})
        return pb.ConfigureProvider.Response()

    def ValidateResourceConfig(self, request: Any) -> Any:  # noqa: N802
        findings = check(self._block("resource", request.type_name), decode(request.config))
        return pb.ValidateResourceConfig.Response(diagnostics=map(diagnostic, findings))

    def ValidateDataResourceConfig(self, request: Any) -> Any:  # noqa: N802
        findings = check(self._block("data", request.type_name), decode(request.config))
        return pb.ValidateDataResourceConfig.Response(diagnostics=map(diagnostic, findings))

    def UpgradeResourceState(self, request: Any) -> Any:  # noqa: N802
        block, state = self._block("resource", request.type_name), json.loads(request.raw_state.json)
        known = {name: state.get(name) for name in (*block.attributes, *block.blocks)}
        return pb.UpgradeResourceState.Response(upgraded_state=encode(known))

    def ReadResource(self, request: Any) -> Any:  # noqa: N802
        state = decode(request.current_state)
        if not self._cloud.has(request.type_name, state):
            state = None  # somebody deleted it: drift
        return pb.ReadResource.Response(new_state=encode(state))

    def PlanResourceChange(self, request: Any) -> Any:  # noqa: N802
        prior, config = decode(request.prior_state), decode(request.config)
        if config is None or decode(request.proposed_new_state) is None:
            return pb.PlanResourceChange.Response(planned_state=encode(None))
        state = planned_state(self._block("resource", request.type_name), config, prior, self._configured)
        paths = [
            pb.AttributePath(steps=[pb.AttributePath.Step(attribute_name=name)])
            for name in replaced_by(state, prior)
        ]
        return pb.PlanResourceChange.Response(planned_state=encode(state), requires_replace=paths)

    def ApplyResourceChange(self, request: Any) -> Any:  # noqa: N802
        prior, planned = decode(request.prior_state), decode(request.planned_state)
        block = self._block("resource", request.type_name)
        if planned is None:
            return self._destroy(request, block, prior)
        seed = make_believe.identity(request.type_name, block, planned, self._project())
        special = make_believe.COMPUTED.get(request.type_name, {})
        state = filled(block, planned, seed, special, self._configured)
        named = any(
            (name == "name" and state.get(name)) or (name.endswith("_id") and attribute.mode == "required")
            for name, attribute in block.attributes.items()
        )
        # Two grants of the same role to the same member are one grant, not a conflict.
        if (
            prior is None
            and named
            and "_iam_" not in request.type_name
            and self._cloud.has(request.type_name, state)
        ):
            finding = Finding("googleapi: Error 409: already exists")
            return pb.ApplyResourceChange.Response(
                new_state=encode(None), diagnostics=[diagnostic(finding, f"{request.type_name} {state.get('id')}")]
            )
        self._cloud.put(request.type_name, state)
        return pb.ApplyResourceChange.Response(new_state=encode(state))

    def _destroy(self, request: Any, block: Block, prior: dict[str, Any]) -> Any:
        guard = block.attributes.get("deletion_protection")
        allowed: tuple[bool | None, ...] = (False, None) if guard and guard.off_by_default else (False,)
        if guard and prior.get("deletion_protection") not in allowed:
            finding = Finding("cannot destroy: deletion_protection is not false")
            return pb.ApplyResourceChange.Response(
                new_state=request.prior_state,
                diagnostics=[diagnostic(finding, f"{request.type_name} {prior.get('id')}")],
            )
        self._cloud.remove(request.type_name, prior)
        return pb.ApplyResourceChange.Response(new_state=encode(None))

    def ReadDataSource(self, request: Any) -> Any:  # noqa: N802
        block, config = self._block("data", request.type_name), decode(request.config)
        given = {name: config[name] for name in block.attributes if config.get(name) is not None}
        found = self._cloud.find(request.type_name, given)
        if found is None:
            seed = make_believe.identity(f"data.{request.type_name}", block, config, self._project())
            planned = planned_state(block, config, None, self._configured)
            special = make_believe.COMPUTED.get(request.type_name, {})
            return pb.ReadDataSource.Response(
                state=encode(filled(block, planned, seed, special, self._configured))
            )
        missing = {name: found[name] for name in block.attributes if name in found and config.get(name) is None}
        return pb.ReadDataSource.Response(state=encode({**config, **missing}))

    def ImportResourceState(self, request: Any) -> Any:  # noqa: N802
        finding = Finding("import is not rehearsed")
        return pb.ImportResourceState.Response(diagnostics=[diagnostic(finding, request.type_name)])

    def StopProvider(self, request: Any) -> Any:  # noqa: N802
        return pb.StopProvider.Response()


def _handler(method: str, function: Callable[[Any], Any]) -> Any:
    def call(request: Any, context: Any) -> Any:
        try:
            return function(request)
        except Exception as error:  # a fault of this program must not look like one of the stack
            context.abort(grpc.StatusCode.INTERNAL, "".join(traceback.format_exception(error)))

    request_type = getattr(pb, method).Request
    return grpc.unary_unary_rpc_method_handler(
        call,
        request_type.FromString,
        lambda answer: answer if isinstance(answer, bytes) else answer.SerializeToString(),
    )


def _certificate() -> tuple[bytes, Any]:
    """A certificate for one run: Terraform refuses a plugin without TLS that announced a certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding
    private = key.private_bytes(encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    credentials = grpc.ssl_server_credentials([(private, certificate.public_bytes(encoding.PEM))])
    return certificate.public_bytes(encoding.DER), credentials


def serve(schema_folder: Path, world: Path) -> None:
    """Serves one run of Terraform; returns when Terraform asks for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Terraform forwards Ctrl-C as StopProvider
    provider = Provider(schema_folder, make_believe.Cloud(world))
    names = [name for name in vars(Provider) if name[0].isupper()]
    methods = {name: _handler(name, getattr(provider, name)) for name in names}
    gone = threading.Event()

    def shutdown(request: Any, context: Any) -> bytes:
        gone.set()
        return b""

    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler("tfplugin6.Provider", methods),
            grpc.method_handlers_generic_handler(
                "plugin.GRPCController", {"Shutdown": grpc.unary_unary_rpc_method_handler(shutdown)}
            ),
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        public, credentials = _certificate()
        server.add_secure_port(f"unix://{folder}/s", credentials)
        server.start()
        print(f"1|6|unix|{folder}/s|grpc|{base64.b64encode(public).decode().rstrip('=')}", flush=True)
        gone.wait()
        server.stop(0.1).wait()


def main(argv: list[str]) -> None:
    """`serve SCHEMA_FOLDER WORLD` for Terraform; `schema SCHEMA_FOLDER` makes the answer about the schema."""
    if argv[0] == "schema":
        folder = Path(argv[1])
        (folder / RESPONSE_FILE).write_bytes(schema_response(SchemaFile(folder / SCHEMA_FILE)))
    else:
        serve(Path(argv[1]), Path(argv[2]))


if __name__ == "__main__":
    main(sys.argv[1:])
