"""The google provider's schema, read out of its CDKTF binding.

A binding is generated from the provider's schema, so it holds most of it: in its JavaScript the name, type and
nesting of every argument and every computed attribute, in its type declarations what is required and the values
that the documentation lists. The binding ships as one tarball inside its Python package.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sqlite3
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

BINDING = "cdktf_cdktf_provider_google"

Kind = Literal["provider", "resource", "data"]
CtyType = str | list[Any]

_TYPES: Mapping[str, CtyType] = {
    "string": "string",
    "number": "number",
    "boolean": "bool",
    "any": "dynamic",
    "stringList": ["list", "string"],
    "numberList": ["list", "number"],
    "booleanList": ["list", "bool"],
    "stringMap": ["map", "string"],
    "numberMap": ["map", "number"],
    "booleanMap": ["map", "bool"],
    "anyMap": ["map", "dynamic"],
    "stringListMap": ["map", ["list", "string"]],
}
_GETTERS: Mapping[str, CtyType] = {
    "String": "string",
    "Number": "number",
    "Boolean": "bool",
    "List": ["list", "string"],
    "NumberList": ["list", "number"],
    "StringMap": ["map", "string"],
    "NumberMap": ["map", "number"],
    "BooleanMap": ["map", "bool"],
    "AnyMap": ["map", "dynamic"],
}
_ELEMENTS = {"String": "string", "Number": "number", "Boolean": "bool", "Any": "dynamic"}

_SENSITIVE = re.compile(
    r"(^|_)(password|private_key|access_token|credentials|secret_data|client_secret|auth_string)$"
)
_ENTRY = re.compile(
    r"^ {8,16}(\w+): \{\s+value: (.+?),\n\s+isBlock: (true|false),\s+type: \"(\w+)\",\s+"
    r"storageClassType: \"(\w+)\",",
    re.M,
)
_FLAGS = re.compile(r"// (\w+) - computed: (true|false), optional: (true|false), required: (?:true|false)\s")
_COMPUTED = re.compile(
    r"// (\w+) - computed: true, optional: false, required: false\s+"
    r"(?:(?:this\.)?_\w+ = new ([\w.]+)\(this, \"\w+\"(?:, (true|false))?\)"
    r"|get \w+\(\) \{\s+return ([^;]+);)"
)
_MAPPER = re.compile(r"^function (\w+)ToHclTerraform\(struct\) \{(.*?)^\}", re.M | re.S)
_CLASS = re.compile(r"^class (\w+) extends cdkt[fn]\.(\w+) \{(.*?)^\}", re.M | re.S)
_INTERFACE = re.compile(r"^export interface (\w+)[^{]*\{(.*?)^\}", re.M | re.S)
_PROPERTY = re.compile(r"(/\*\*(?:(?!\*/).)*\*/)?\s*readonly (\w+)(\??): ", re.S)
_TF_TYPE = re.compile(r"^(\w+)\.tfResourceType = \"(\w+)\";", re.M)
_STATIC_TF_TYPE = re.compile(r"static tfResourceType = \"(\w+)\";")
_SYNTHESIZE = re.compile(r"synthesizeHclAttributes\(\) \{(.*?)^    \}", re.M | re.S)
_VERSION = re.compile(r"providerVersion: '([^']+)'")
_ENUM = re.compile(r"Possible values: \[([^\]]*)\]")


@dataclass
class Attribute:
    """An attribute of a block.

    Attributes:
        type: as cty writes it in JSON, such as `["list", "string"]`.
        mode: required, optional or decided by the provider.
        also_computed: whether the provider fills it in when it is left out; None where the binding does not tell.
        values: those that the documentation lists; empty where it lists none.
        off_by_default: for `deletion_protection`: it is off where it is left out.
    """

    type: CtyType
    mode: Literal["required", "optional", "computed"]
    also_computed: bool | None = None
    values: list[str] = field(default_factory=list)
    sensitive: bool = False
    off_by_default: bool = False


@dataclass
class NestedBlock:
    """A block within a block; `most` is 0 where there is no limit."""

    nesting: Literal["LIST", "SET", "SINGLE"]
    least: int
    most: int
    block: Block


@dataclass
class Block:
    """A resource, data source or nested block: its attributes and the blocks within it."""

    attributes: dict[str, Attribute] = field(default_factory=dict)
    blocks: dict[str, NestedBlock] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "attributes": {name: vars(attribute) for name, attribute in self.attributes.items()},
            "blocks": {
                name: {"nesting": b.nesting, "least": b.least, "most": b.most, "block": b.block.to_json()}
                for name, b in self.blocks.items()
            },
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Block:
        return Block(
            {name: Attribute(**attribute) for name, attribute in value["attributes"].items()},
            {
                name: NestedBlock(b["nesting"], b["least"], b["most"], Block.from_json(b["block"]))
                for name, b in value["blocks"].items()
            },
        )


Schemas = dict[tuple[Kind, str], Block]


class SchemaFile:
    """The schema on disk: one row a type, so that a provider reads only the types that it is asked about."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False)

    @staticmethod
    def write(path: Path, schemas: Schemas, version: str) -> None:
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path)
        with connection:
            connection.execute("create table version (version)")
            connection.execute("insert into version values (?)", (version,))
            connection.execute("create table types (kind, name, body, primary key (kind, name))")
            connection.executemany(
                "insert into types values (?, ?, ?)",
                [(kind, name, json.dumps(block.to_json())) for (kind, name), block in schemas.items()],
            )
        connection.close()

    def version(self) -> str:
        """The provider's version, such as `6.50.0`."""
        return str(self._connection.execute("select version from version").fetchone()[0])

    def block(self, kind: Kind, name: str) -> Block:
        """The schema of one type.

        Raises:
            KeyError: the provider has no such type.
        """
        row = self._connection.execute(
            "select body from types where kind = ? and name = ?", (kind, name)
        ).fetchone()
        if row is None:
            raise KeyError(f"{kind} {name}")
        return Block.from_json(json.loads(row[0]))

    def all(self) -> Iterator[tuple[Kind, str, Block]]:
        for kind, name, body in self._connection.execute("select kind, name, body from types"):
            yield kind, name, Block.from_json(json.loads(body))


def binding_tarball(package: str = BINDING) -> Path:
    """The tarball inside an installed binding.

    Raises:
        FileNotFoundError: the binding is not installed.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for tarball in sorted(Path(folder, "_jsii").glob("*.tgz")):
            return tarball
    raise FileNotFoundError(f"the binding {package} is not installed: call 'make dev'")


def derive(tarball: Path) -> tuple[Schemas, str]:
    """Every type's schema, and the provider's version."""
    schemas: Schemas = {}
    version = ""
    for javascript, declarations in _modules(tarball).values():
        module = _Module(javascript, declarations)
        version = module.version or version
        for class_name, (base, body) in module.classes.items():
            kind = _KINDS.get(base)
            if kind is None:
                continue
            synthesize = _SYNTHESIZE.search(body)
            block = module.block(class_name + "Config", synthesize[1] if synthesize else "", body)
            schemas[kind, module.tf_types.get(class_name, "google")] = block
    return schemas, version


_KINDS: Mapping[str, Kind] = {
    "TerraformResource": "resource",
    "TerraformDataSource": "data",
    "TerraformProvider": "provider",
}


def _modules(tarball: Path) -> dict[str, tuple[str, str]]:
    """JavaScript and declarations of each `lib/<resource>/` folder."""
    sources: dict[str, list[str]] = defaultdict(lambda: ["", ""])
    with tarfile.open(tarball) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if len(path.parts) < 4 or path.parts[1] != "lib" or not path.name.endswith((".js", ".d.ts")):
                continue
            file = archive.extractfile(member)
            if file is not None:
                text = re.sub(r"//# sourceMappingURL.*", "", file.read().decode())
                sources[path.parts[2]][path.name.endswith(".d.ts")] += text + "\n"
    return {name: (javascript, declarations) for name, (javascript, declarations) in sorted(sources.items())}


def _capitalised(name: str) -> str:
    return name[:1].upper() + name[1:]


class _Module:
    """One resource's generated code, split into the mappers and classes of its structs and their interfaces."""

    def __init__(self, javascript: str, declarations: str) -> None:
        self.mappers = {_capitalised(m[1]): m[2] for m in _MAPPER.finditer(javascript)}
        self.classes = {m[1]: (m[2], m[3]) for m in _CLASS.finditer(javascript)}
        self.tf_types = dict(_TF_TYPE.findall(javascript))
        for name, (_, body) in self.classes.items():
            if match := _STATIC_TF_TYPE.search(body):
                self.tf_types[name] = match[1]
        self.interfaces = {
            m[1]: {p[2]: (p[3] == "", p[1] or "") for p in _PROPERTY.finditer(m[2])}
            for m in _INTERFACE.finditer(declarations)
        }
        match = _VERSION.search(javascript)
        self.version = match[1] if match else ""
        self._open: list[str] = []

    def block(self, struct: str, mapper: str, class_body: str) -> Block:
        """The schema of a struct: arguments from its mapper, computed attributes from its reference class."""
        block = Block()
        properties = self.interfaces.get(struct, {})
        # Newer bindings tell which optional attributes are computed too.
        computed_too = {
            name: computed == optional == "true" for name, computed, optional in _FLAGS.findall(class_body)
        }
        for name, value, is_block, kind, storage in _ENTRY.findall(mapper):
            member = re.findall(r"(?:struct\.|this\._)(\w+)", value)[-1]
            required, text = properties.get(member, (False, ""))
            if is_block == "true":
                block.blocks[name] = self._nested(kind, storage, required, many="listMapperHcl" in value)
            else:
                block.attributes[name] = self._argument(
                    name, kind, storage, required, text, computed_too.get(name)
                )
        for name, cls, is_set, getter in _COMPUTED.findall(class_body):
            if name not in block.attributes:
                block.attributes[name] = Attribute(self._computed_type(cls, is_set, getter), "computed")
        return block

    def _nested(self, kind: str, storage: str, required: bool, many: bool) -> NestedBlock:
        if kind == "struct":
            return NestedBlock("SINGLE", 0, 0, self._struct(storage))
        nesting: Literal["LIST", "SET"] = "SET" if kind == "set" else "LIST"
        child = re.sub(r"(List|Map)$", "", storage)
        return NestedBlock(nesting, int(required), 0 if many else 1, self._struct(child))

    def _argument(
        self, name: str, kind: str, storage: str, required: bool, text: str, also_computed: bool | None
    ) -> Attribute:
        found: CtyType
        if storage in _TYPES:
            simple = _TYPES[storage]
            found = ["set", *simple[1:]] if kind == "set" else simple
        else:
            child = storage if kind == "struct" else re.sub(r"(List|Map)$", "", storage)
            found = [kind if kind in ("set", "map") else "list", self._object(self._struct(child))]
        listed = _ENUM.search(" ".join(text.replace("\n", " ").split(" * ")))
        return Attribute(
            type=found,
            mode="required" if required else "optional",
            also_computed=None if required else also_computed,
            values=re.findall(r'"([^"]*)"', listed[1]) if listed else [],
            sensitive=bool(_SENSITIVE.search(name)),
            off_by_default=name == "deletion_protection" and "Defaults to false" in text,
        )

    def _struct(self, struct: str) -> Block:
        if self._open.count(struct) > 1:  # a struct within itself: far enough
            return Block()
        self._open.append(struct)
        body = self.classes.get(struct + "OutputReference", ("", ""))[1]
        block = self.block(struct, self.mappers.get(struct, ""), body)
        self._open.pop()
        return block

    def _object(self, block: Block) -> CtyType:
        members: dict[str, CtyType] = {name: a.type for name, a in block.attributes.items()}
        for name, nested in block.blocks.items():
            around = "list" if nested.nesting == "SINGLE" else nested.nesting.lower()
            members[name] = [around, self._object(nested.block)]
        return ["object", members]

    def _computed_type(self, cls: str, is_set: str, getter: str) -> CtyType:
        around = "set" if is_set == "true" else "list"
        if cls.startswith(("cdktf.", "cdktn.")):
            match = re.match(r"(String|Number|Boolean|Any)Map(List)?$", cls.split(".")[1])
            if match is None:
                return "dynamic"
            map_type: CtyType = ["map", _ELEMENTS[match[1]]]
            return [around, map_type] if match[2] else map_type
        if cls:
            name = cls.split(".")[-1]
            if name.endswith("List"):
                return [around, self._object(self._struct(name[:-4]))]
            if name.endswith("Map"):
                return ["map", self._object(self._struct(name[:-3]))]
            return self._object(self._struct(name.removesuffix("OutputReference")))
        match = re.search(r"this\.get(\w+)Attribute\(", getter)
        found = _GETTERS.get(match[1], "dynamic") if match else "dynamic"
        return ["set", found[1]] if "Fn.tolist" in getter else found
