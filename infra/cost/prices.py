"""The price file: every price with the page that it was read on and the day, or marked as having none."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from caudal.errors import CaudalError, ProblemsFound
from caudal.yaml_document import MalformedYaml, Section, problems_from, read_document

PRICES = Path(__file__).with_name("prices.yaml")


class InvalidPrices(ProblemsFound):
    """The price file is not as it must be."""


class UnknownPrice(CaudalError):
    """The stacks hold something that has no price."""


class Source(Section):
    """Where a price was read."""

    page: str = Field(pattern=r"^https://")
    read: date


class Price(Section):
    """One price, in USD.

    Attributes:
        per: the unit, in words.
        region: for which the source gives it.
        source: the page and the day on which it was read.
        unsourced: why there is none.
    """

    usd: float = Field(gt=0)
    per: str
    region: str
    source: Source | None = None
    unsourced: str = ""

    @model_validator(mode="after")
    def _has_a_source_or_says_why_not(self) -> Price:
        if (self.source is None) == (not self.unsourced):
            raise ValueError("a price has a source or says why it has none, and not both")
        return self


class Prices(Section):
    """Prices by name."""

    prices: dict[str, Price]

    def __getitem__(self, name: str) -> Price:
        try:
            return self.prices[name]
        except KeyError:
            raise UnknownPrice(
                f"there is no price of '{name}'", where=PRICES.name, mend=f"add '{name}' with its source"
            ) from None


def load_prices(path: Path = PRICES) -> Prices:
    """Reads the price file.

    Raises:
        InvalidPrices: with file, line and mend of every problem.
    """
    try:
        document = read_document(path.read_text(encoding="utf-8"), path.name)
        values: dict[str, Any] = document.values
        return Prices.model_validate(values)
    except MalformedYaml as malformed:
        raise InvalidPrices([malformed.problem]) from malformed
    except ValidationError as error:
        raise InvalidPrices(problems_from(error, document, Prices)) from error
