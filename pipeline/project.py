"""Where the project's files are: contracts and environments, found from the folder in which one works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from caudal.errors import UsageError

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.environment import Environment


def project_root(start: Path | None = None) -> Path:
    """The nearest folder, from here upwards, that holds contracts/ and environments/.

    Raises:
        UsageError: there is none.
    """
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / "contracts").is_dir() and (folder / "environments").is_dir():
            return folder
    raise UsageError(
        "this is not a Caudal project",
        where=str(here),
        mend="call caudal from a folder that holds contracts/ and environments/, or from one below it",
    )


def relative(path: Path) -> Path:
    """A path as it is best shown: relative to where one works, if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def find_contract(name: str) -> Contract:
    """The contract with this name, or in this file.

    Raises:
        InvalidContract: there is none, or it has problems.
    """
    from caudal.contract import load_contract

    given = Path(name)
    if given.suffix in (".yaml", ".yml"):
        return load_contract(given)
    return load_contract(relative(project_root() / "contracts" / f"{name}.yaml"))


def find_environment(name: str, root: Path | None = None) -> Environment:
    """The environment with this name.

    Args:
        name: of a file in environments/.
        root: replaces the folder in which a local environment keeps everything.

    Raises:
        InvalidEnvironment: there is none, or it has problems.
    """
    from caudal.environment import load_environment

    project = project_root()
    environment = load_environment(relative(project / "environments" / f"{name}.yaml"), root)
    if root is None and environment.root and not Path(environment.root).is_relative_to(project):
        # A relative root is relative to the project, wherever below it the command was called.
        written = Path(environment.root).relative_to(Path.cwd())
        return load_environment(relative(project / "environments" / f"{name}.yaml"), project / written)
    return environment
