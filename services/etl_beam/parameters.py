"""What the pipeline is started with: the one list from which its options and the template's description come.

Nothing of Beam is imported here: deploying a template needs no pipeline.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from caudal.errors import UsageError


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes:
        name: as in `--name=value`.
        label: what a form calls it.
        help: what it is for.
        pattern: the regular expression that a value matches as a whole.
        optional: whether it may be left out.
    """

    name: str
    label: str
    help: str
    pattern: str
    optional: bool = False

    def check(self, value: str | None) -> str | None:
        """The value, if it is one.

        Raises:
            UsageError: it is missing, or does not match the pattern.
        """
        if value is None:
            if self.optional:
                return None
            raise UsageError("a parameter is missing", where=f"--{self.name}", mend=self.help)
        if not re.fullmatch(self.pattern, value):
            raise UsageError(f"'{value}' does not match {self.pattern}", where=f"--{self.name}", mend=self.help)
        return value


PARAMETERS = (
    Parameter(
        "config",
        "Configuration",
        "The folder with contract.yaml and environment.yaml as they were when the run began",
        r"(gs|file)://.+",
    ),
    Parameter(
        "run", "Run", "The folder of the run: it holds run.json, and gets the step's result", r"(gs|file)://.+"
    ),
    Parameter(
        "shards",
        "Shards",
        "At most so many shards in a shuffle; the environment's etl.shards when left out",
        r"[1-9][0-9]{0,3}",
        optional=True,
    ),
)
