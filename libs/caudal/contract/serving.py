"""The contract's serving: what the server does with a request that it could score only with doubt."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from caudal.contract.values import Duration
from caudal.yaml_document import Section

Policy = Literal["refuse", "flag"]


class Serving(Section):
    """What becomes of a request whose row the contract would reject.

    `refuse` answers 422 and names the field. `flag` scores the row and says in the answer, in the prediction log
    and in the metrics what was wrong with it. A value of the wrong type is refused always; a category that the
    contract knows and training never saw is flagged always. The defaults refuse what the pipeline rejects too.

    Attributes:
        missing: a required column without a value; flagged, it is scored as missing.
        out_of_range: a number outside the column's range; flagged, it is scored as it is.
        unknown_category: a value that the column does not list; flagged, it is scored as missing.
        state_within: a published state of an entity that is older than this is flagged; never when absent.
        reasons: how many reasons a caller gets who asks for reasons and not for a number of them.
    """

    missing: Policy = "refuse"
    out_of_range: Policy = "refuse"
    unknown_category: Policy = "refuse"
    state_within: Duration | None = None
    reasons: int = Field(default=5, ge=1, le=100)
