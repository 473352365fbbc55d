"""The one shape in which a request is refused: `{"detail": [{"loc", "msg", "type"}, ...]}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.responses import JSONResponse


def refusal(
    status: int, problems: Sequence[Mapping[str, Any]], headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer to a request that is refused.

    Args:
        problems: what is wrong, each with its place (`loc`), words and kind; never with a value of the request.
    """
    return JSONResponse({"detail": list(problems)}, status_code=status, headers=headers)


def refused(
    status: int, message: str, kind: str = "refused", headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The answer to a request that is refused as a whole, for no place in it."""
    return refusal(status, [{"loc": [], "msg": message, "type": kind}], headers)
