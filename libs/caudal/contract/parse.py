"""From text to a contract, or to every problem that the text has."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from caudal.contract.consistency import mismatches
from caudal.contract.contract import Contract
from caudal.errors import InvalidContract, Problem
from caudal.yaml_document import MalformedYaml, problems_from, read_document


def parse_contract(text: str, name: str = "contract") -> Contract:
    """Parses a contract.

    Args:
        text: YAML.
        name: the file's name, for messages.

    Raises:
        InvalidContract: with file, line and mend of every problem.
    """
    try:
        document = read_document(text, name)
        contract = Contract.model_validate(document.values)
    except MalformedYaml as malformed:
        raise InvalidContract([malformed.problem]) from malformed
    except ValidationError as error:
        raise InvalidContract(problems_from(error, document, Contract)) from error
    contract._document = document
    contract._text = text
    found = [Problem(contract.where(*m.path), m.what, m.mend) for m in mismatches(contract)]
    if found:
        raise InvalidContract(sorted(found, key=lambda p: int(p.where.rsplit(":", 1)[1])))
    return contract


def load_contract(path: Path) -> Contract:
    """Reads a contract from a file.

    Raises:
        InvalidContract: the file is missing, or has problems.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        near = sorted(p.stem for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise InvalidContract(
            [Problem(str(path), "there is no such contract", f"contracts here: {', '.join(near) or 'none'}")]
        ) from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        what = "the contract is a folder" if path.is_dir() else "the contract is not text in UTF-8"
        raise InvalidContract([Problem(str(path), what, "name a YAML file, saved as UTF-8")]) from error
    return parse_contract(text, str(path))
