"""Programs that are called: one place that starts them, so that tests can answer in their stead."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Protocol

from caudal.errors import CaudalError


class CommandFailed(CaudalError):
    """A program could not be started, or ended with an error."""


class Runner(Protocol):
    """Runs a program and gives what it printed; `CommandFailed` when it fails."""

    def __call__(self, arguments: Sequence[str]) -> str: ...


def run(arguments: Sequence[str]) -> str:
    """Runs a program; what it says on standard error is shown as it comes.

    Raises:
        CommandFailed: with the program's status, or because it is not there.
    """
    return _run(arguments, None)


def run_quietly(arguments: Sequence[str]) -> str:
    """Runs a program whose failure is no news; what it says on standard error is not shown.

    Raises:
        CommandFailed: as for `run`.
    """
    return _run(arguments, subprocess.DEVNULL)


def _run(arguments: Sequence[str], errors: int | None) -> str:
    try:
        done = subprocess.run(list(arguments), stdout=subprocess.PIPE, stderr=errors, text=True, check=True)
    except FileNotFoundError as error:
        raise CommandFailed(
            f"there is no program '{arguments[0]}'", mend=f"install {arguments[0]}; `caudal doctor` names versions"
        ) from error
    except subprocess.CalledProcessError as error:
        what = f"it ended with status {error.returncode}"
        raise CommandFailed(what, where=" ".join(arguments[:4]), mend="its own message is above") from error
    return done.stdout
