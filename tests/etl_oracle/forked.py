"""Runs the ETL step in processes that are killed at a given moment: `python -m tests.etl_oracle.forked`.

Each line of standard input, `{"contract", "root", "as_of", "kill_after"}`, is one run in a forked child, killed
after so many seconds unless they are null; its exit status and its seconds are printed. Forking spares every run
the time of importing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from datetime import datetime
from pathlib import Path

from caudal.contract import load_contract
from etl_beam.step import etl
from tests.etl_oracle.stream import Stream


def run(contract: str, root: str, as_of: str) -> int:
    """One run in this process; returns the exit status."""
    try:
        etl(Stream(load_contract(Path(contract)), Path(root)).context(datetime.fromisoformat(as_of)))
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    for line in sys.stdin:
        said = json.loads(line)
        kill_after = said.pop("kill_after")
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(run(**said))
        if kill_after is not None:
            time.sleep(kill_after)
            # A child that has ended is still ours until it is waited for, so this hits nobody else.
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, time.monotonic() - began, flush=True)


if __name__ == "__main__":
    main()
