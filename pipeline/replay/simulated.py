"""A sample that is made up on demand, for a replay of a data set that has a simulator."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from caudal.errors import UsageError
from caudal.identity import digest
from pipeline.replay.replay import code_digest

SIMULATED = "wallet"
SIMULATOR = "data/wallet"
_DONE = "complete.json"


@dataclass(frozen=True)
class SampleRequest:
    """What is to be simulated.

    Attributes:
        rows: about how many.
        days: how many days; the simulator decides when None.
        inject: lasting changes, `KIND@DAY` or `KIND@DAY:STRENGTH`.
        dirt: defects, `KIND` or `KIND=SHARE`.
    """

    rows: int
    days: int | None = None
    seed: int = 0
    inject: tuple[str, ...] = ()
    dirt: tuple[str, ...] = ()


def simulated_sample(contract: str, request: SampleRequest, below: Path) -> Path:
    """The folder with the sample, one file a week, or a day where there is dirt.

    It is made once for the same request and the same simulator.

    Raises:
        UsageError: the contract has no simulator, or an injection or a kind of dirt can't be.
    """
    if contract != SIMULATED:
        raise UsageError(
            f"'{contract}' has no simulator",
            mend=f"leave out --rows, --inject and --dirt, or replay '{SIMULATED}'",
        )
    from data.wallet.dirt import Dirt
    from data.wallet.files import write_files
    from data.wallet.simulator import Injection, Simulation

    try:
        injections = tuple(Injection.parse(text) for text in request.inject)
    except ValueError as error:
        raise UsageError(str(error), where="--inject", mend="see `caudal simulate --help`") from error
    try:
        # The last word on a kind holds.
        defects = tuple({d.kind: d for text in request.dirt for d in Dirt.parse(text)}.values())
    except ValueError as error:
        raise UsageError(str(error), where="--dirt", mend="see `caudal simulate --help`") from error
    simulation = Simulation(request.rows, request.seed, days=request.days or 0, injections=injections)
    late = [injection for injection in injections if injection.day >= simulation.days]
    if late:
        raise UsageError(
            f"day {late[0].day} is after the last day, {simulation.days - 1}",
            where="--inject",
            mend="inject earlier, or ask for more --days",
        )
    folder = below / digest("sample", contract, vars(request), code_digest([SIMULATOR]))[:16]
    if not (folder / _DONE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        # Late rows land on a day of their own.
        for _ in write_files(simulation, folder / "files", days_a_file=1 if defects else 7, dirt=defects):
            pass
        (folder / _DONE).write_text("{}\n")
    return folder / "files"
