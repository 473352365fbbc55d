"""`python -m ingest_function ingest --config URI --run URI`: one call of the function, without HTTP."""

import sys

from caudal.unit import main
from ingest_function.step import ingest

sys.exit(main("ingest_function", {"ingest": ingest}))
