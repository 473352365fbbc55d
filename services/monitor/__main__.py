"""`python -m monitor inputs|outcomes --config URI --run URI`: one step as a job of its own."""

import sys

from caudal.unit import main
from monitor.step import inputs, outcomes

if __name__ == "__main__":
    sys.exit(main("monitor", {"inputs": inputs, "outcomes": outcomes}))
