"""Simulated wallet transactions with fraud: no person is behind any row.

The process is the one that the Fraud Detection Handbook documents (Le Borgne, Siblini, Lebichot, Bontempi, 2022);
the code is our own. README.md lists the parameters and what was changed.

A day is the unit of generation. Each day draws from generators of its own, seeded by (seed, stream, day), so a day
comes out alike alone, in a month, and in any split into files. Whatever lasts longer than a day (a compromised
terminal, say) is drawn by the day on which it starts, and looked up by the days after.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from functools import cached_property
from math import ceil, sqrt
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# The handbook's parameters.
CUSTOMERS = 5_000
TERMINALS = 10_000
SIDE = 100.0
RADIUS = 5.0
DAYS = 183
START = date(2018, 4, 1)
MEAN_AMOUNT = (5.0, 100.0)
DAILY_RATE = (0.0, 4.0)
NOON_SECONDS, SPREAD_SECONDS = 43_200.0, 20_000.0
DAY_SECONDS = 86_400
LARGE_AMOUNT_CENTS = 22_000
TERMINALS_A_DAY, TERMINAL_DAYS = 2, 28
CUSTOMERS_A_DAY, CUSTOMER_DAYS = 3, 14
STOLEN_SHARE, STOLEN_FACTOR = 1 / 3, 5

# P(0 < time of day < 86,400): the share of the drawn transactions that is kept.
KEPT_SHARE = 0.969

# Ours.
FEWEST_CUSTOMERS = 100
IDS_A_DAY = 1_000_000_000
_BLOCK = 65_536

SCHEMA = pa.schema(
    [
        pa.field("transaction_id", pa.int64()),
        pa.field("occurred_at", pa.timestamp("us", tz="UTC")),
        pa.field("customer_id", pa.int64()),
        pa.field("terminal_id", pa.int64()),
        pa.field("amount", pa.decimal128(12, 2)),
        pa.field("is_fraud", pa.bool_()),
    ]
)

InjectionKind = Literal["amounts", "fraud", "merchants"]
INJECTIONS: tuple[InjectionKind, ...] = get_args(InjectionKind)
_STRENGTHS: dict[InjectionKind, float] = {"amounts": 2.0, "fraud": 5.0, "merchants": 0.5}
_STRONGEST = 1e6
"""Well below the strength from which on 64 bits don't hold an amount in cents."""


class Scenario(IntEnum):
    """Why a transaction is fraud; not part of the data, since nobody would know."""

    NONE = 0
    LARGE_AMOUNT = 1
    TERMINAL = 2
    CUSTOMER = 3
    CARD_TESTING = 4


class _Stream(IntEnum):
    """Independent random streams; a new one takes a new number, so the others keep theirs."""

    CUSTOMERS = 0
    TERMINALS = 1
    TRANSACTIONS = 2
    BAD_TERMINALS = 3
    BAD_CUSTOMERS = 4
    STOLEN = 5
    MERCHANTS = 6
    CARD_TESTING = 7


@dataclass(frozen=True)
class Injection:
    """A lasting change from a given day on.

    - `amounts`: every amount is multiplied by `strength` (default 2) after fraud was decided, so what counts as
      large moves too.
    - `fraud`: a kind of fraud that was not there before. Customers are compromised as often as in the handbook's
      third scenario, and each of the 14 days brings `strength` (default 5) small transactions in the night, on
      average, at terminals anywhere.
    - `merchants`: `strength` (default .5) of all transactions move to a fiftieth of the terminals, anywhere.
    """

    kind: InjectionKind
    day: int
    strength: float

    @staticmethod
    def parse(text: str) -> Injection:
        """Reads `KIND@DAY` or `KIND@DAY:STRENGTH`, such as `amounts@60` or `merchants@90:0.3`.

        A strength is above 0 and at most a million, that of `merchants` at most 1.

        Raises:
            ValueError: it says something else.
        """
        kind, _, rest = text.partition("@")
        day, _, strength = rest.partition(":")
        for known in INJECTIONS:
            if kind == known and day.isdigit():
                value = float(strength) if strength else _STRENGTHS[known]
                if not 0 < value <= _STRONGEST or (known == "merchants" and value > 1):
                    raise ValueError(f"the strength {value:g} of '{text}' is out of range")
                return Injection(known, int(day), value)
        raise ValueError(f"'{text}' is not KIND@DAY or KIND@DAY:STRENGTH with a kind of {', '.join(INJECTIONS)}")


@dataclass(frozen=True)
class Population:
    """Customers, terminals, and who can reach what.

    Attributes:
        rate: transactions a day that a customer starts, on average.
        mean_amount: of a customer, in EUR; the standard deviation is half of it.
        first, reach: the terminals within a customer's radius are `reach[first[c] : first[c + 1]]`.
        terminals: how many there are.
    """

    rate: Floats
    mean_amount: Floats
    first: Ints
    reach: npt.NDArray[np.int32]
    terminals: int

    @property
    def customers(self) -> int:
        return len(self.rate)


@dataclass(frozen=True)
class Transactions:
    """One day's transactions, in order of time; every array has one value a transaction.

    Attributes:
        second: since midnight UTC.
        cents: the amount.
    """

    id: Ints
    second: Ints
    customer: Ints
    terminal: Ints
    cents: Ints
    scenario: npt.NDArray[np.int8]


@dataclass(frozen=True)
class Simulation:
    """A stream of transactions, wholly decided by its fields.

    The documented setting has 5,000 customers, 10,000 terminals and 183 days, about 1.75 million rows. Other sizes
    keep the days, and with them the density of terminals, the rows a customer and the share of fraud: customers,
    terminals, the side of the area squared and the number of those compromised each day all grow alike. Below 100
    customers (about 35,000 rows) the days shrink instead.

    Attributes:
        rows: about how many transactions (the number of customers is the smallest with so many expected).
        days: overrides the number of days.
        injections: lasting changes.
    """

    rows: int
    seed: int = 0
    start: date = START
    days: int = 0
    injections: tuple[Injection, ...] = ()

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError("a simulation has at least one row")
        if not self.days:
            daily = FEWEST_CUSTOMERS * sum(DAILY_RATE) / 2 * KEPT_SHARE
            object.__setattr__(self, "days", min(DAYS, ceil(self.rows / daily)))

    @cached_property
    def population(self) -> Population:
        """Everybody and everything; memory is about 400 bytes a customer."""
        wanted = self.rows / (self.days * KEPT_SHARE)
        random = self._random(_Stream.CUSTOMERS)
        blocks: list[Floats] = []
        expected = 0.0
        while expected < wanted:
            blocks.append(random.random((_BLOCK, 4)))
            expected += float(blocks[-1][:, 3].sum()) * DAILY_RATE[1]
        drawn = np.concatenate(blocks)
        rate = DAILY_RATE[0] + drawn[:, 3] * (DAILY_RATE[1] - DAILY_RATE[0])
        count = max(1, int(np.searchsorted(np.cumsum(rate), wanted)) + 1)
        drawn, rate = drawn[:count], rate[:count]
        terminals = max(1, count * TERMINALS // CUSTOMERS)
        side = SIDE * sqrt(count / CUSTOMERS)
        places = self._random(_Stream.TERMINALS).random((terminals, 2)) * side
        first, reach = _within_radius(drawn[:, :2] * side, places, side)
        mean = MEAN_AMOUNT[0] + drawn[:, 2] * (MEAN_AMOUNT[1] - MEAN_AMOUNT[0])
        return Population(rate, mean, first, reach, terminals)

    def transactions(self, day: int) -> Transactions:
        """The transactions of one day, counted from 0."""
        people = self.population
        customer, second, cents, terminal = self._ordinary(day)
        scenario = np.where(cents > LARGE_AMOUNT_CENTS, Scenario.LARGE_AMOUNT, Scenario.NONE).astype(np.int8)

        bad = np.zeros(people.terminals, bool)
        bad[self._compromised(_Stream.BAD_TERMINALS, day, TERMINALS_A_DAY, TERMINALS, TERMINAL_DAYS)] = True
        scenario[bad[terminal]] = Scenario.TERMINAL

        robbed = np.zeros(people.customers, bool)
        robbed[self._compromised(_Stream.BAD_CUSTOMERS, day, CUSTOMERS_A_DAY, CUSTOMERS, CUSTOMER_DAYS)] = True
        stolen = robbed[customer] & (self._random(_Stream.STOLEN, day).random(len(customer)) < STOLEN_SHARE)
        cents[stolen] *= STOLEN_FACTOR
        scenario[stolen] = Scenario.CUSTOMER

        for injection in self.injections:
            if day < injection.day:
                continue
            if injection.kind == "amounts":
                cents = np.rint(cents * injection.strength).astype(np.int64)
            elif injection.kind == "fraud":
                added = self._card_testing(day, injection)
                customer, second, cents, terminal = (
                    np.concatenate(pair) for pair in zip((customer, second, cents, terminal), added, strict=True)
                )
                more = np.full(len(added[0]), Scenario.CARD_TESTING, np.int8)
                scenario = np.concatenate([scenario, more])

        order = np.lexsort((customer, second))
        number = day * IDS_A_DAY + np.arange(len(order), dtype=np.int64)
        return Transactions(number, second[order], customer[order], terminal[order], cents[order], scenario[order])

    def table(self, day: int) -> pa.Table:
        """The transactions of one day, as `SCHEMA`."""
        rows = self.transactions(day)
        midnight = datetime.combine(self.start + timedelta(days=day), datetime.min.time(), UTC)
        micros = (int(midnight.timestamp()) + rows.second) * 1_000_000
        return pa.table(
            [
                pa.array(rows.id),
                pa.array(micros).cast(SCHEMA.field("occurred_at").type),
                pa.array(rows.customer),
                pa.array(rows.terminal),
                _decimals(rows.cents),
                pa.array(rows.scenario != Scenario.NONE),
            ],
            schema=SCHEMA,
        )

    def tables(self) -> Iterator[pa.Table]:
        """Every day's transactions, in order."""
        return (self.table(day) for day in range(self.days))

    def _ordinary(self, day: int) -> tuple[Ints, Ints, Ints, Ints]:
        """What customers do by themselves: customer, second, cents and terminal of each transaction."""
        people = self.population
        random = self._random(_Stream.TRANSACTIONS, day)
        customer = np.repeat(np.arange(people.customers), random.poisson(people.rate))
        at = random.normal(NOON_SECONDS, SPREAD_SECONDS, len(customer)).astype(np.int64)
        mean = people.mean_amount[customer]
        amount = random.normal(mean, mean / 2)
        amount = np.where(amount < 0, random.random(len(customer)) * 2 * mean, amount)
        within = people.first[customer + 1] - people.first[customer]
        chosen = people.first[customer] + (random.random(len(customer)) * within).astype(np.int64)
        kept = (at > 0) & (at < DAY_SECONDS) & (within > 0)
        terminal = people.reach[chosen[kept]].astype(np.int64)
        for injection in self.injections:
            if injection.kind == "merchants" and day >= injection.day:
                terminal = self._moved(day, terminal, injection.strength)
        return customer[kept], at[kept], np.rint(amount[kept] * 100).astype(np.int64), terminal

    def _moved(self, day: int, terminal: Ints, share: float) -> Ints:
        few = max(1, self.population.terminals // 50)
        popular = self._random(_Stream.MERCHANTS).permutation(self.population.terminals)[:few]
        random = self._random(_Stream.MERCHANTS, day)
        moves = random.random(len(terminal)) < share
        return np.where(moves, popular[random.integers(0, few, len(terminal))], terminal)

    def _card_testing(self, day: int, injection: Injection) -> tuple[Ints, Ints, Ints, Ints]:
        victims = self._compromised(
            _Stream.CARD_TESTING, day, CUSTOMERS_A_DAY, CUSTOMERS, CUSTOMER_DAYS, injection.day
        )
        random = self._random(_Stream.CARD_TESTING, day)
        customer = np.repeat(victims, random.poisson(injection.strength, len(victims)))
        second = random.integers(1, 6 * 3600, len(customer))
        cents = random.integers(100, 501, len(customer))
        return customer, second, cents, random.integers(0, self.population.terminals, len(customer))

    def _compromised(self, stream: _Stream, day: int, number: int, among: int, lasts: int, since: int = 0) -> Ints:
        """Who is compromised on a day: `number` of every `among` fall each day, and stay so for `lasts` days."""
        people = self.population
        size = people.customers if among == CUSTOMERS else people.terminals
        fallen = [np.empty(0, np.int64)]
        for start in range(max(since, day - lasts + 1), day + 1):
            # A whole number a day, whose sum keeps to the exact share in a population of any size.
            count = (start + 1) * number * size // among - start * number * size // among
            fallen.append(self._random(stream, start, 1).choice(size, min(count, size), replace=False))
        return np.unique(np.concatenate(fallen))

    def _random(self, *stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=stream)))


def _decimals(cents: Ints) -> pa.Array:
    """Cents as decimals, by writing the 128-bit integers that a decimal is made of."""
    halves = np.empty((len(cents), 2), np.int64)
    halves[:, 0] = cents
    halves[:, 1] = cents >> 63
    buffers = [None, pa.py_buffer(halves.tobytes())]
    return pa.Array.from_buffers(SCHEMA.field("amount").type, len(cents), buffers)


def _within_radius(customers: Floats, terminals: Floats, side: float) -> tuple[Ints, npt.NDArray[np.int32]]:
    """For each customer the terminals nearer than the radius, as offsets and a flat array.

    Terminals are sorted into square cells as wide as the radius, so only nine cells are searched a customer; the
    three neighbours in a row of cells lie side by side.
    """
    across = max(1, int(side / RADIUS))
    width = side / across
    cell = np.minimum((terminals / width).astype(np.int64), across - 1)
    # A border of empty cells on all sides spares the edges a special case.
    number = (cell[:, 0] + 1) * (across + 2) + cell[:, 1] + 1
    order = np.argsort(number, kind="stable")
    starts = np.searchsorted(number[order], np.arange((across + 2) ** 2 + 1))
    counts, found = [np.zeros(1, np.int64)], []
    for begin in range(0, len(customers), 8192):
        place = customers[begin : begin + 8192]
        home = np.minimum((place / width).astype(np.int64), across - 1) + 1
        rows = home[:, :1] + np.array([-1, 0, 1])
        low = starts[rows * (across + 2) + home[:, 1:] - 1]
        size = starts[rows * (across + 2) + home[:, 1:] + 2] - low
        who = np.repeat(np.arange(len(place)), size.sum(axis=1))
        flat = size.ravel()
        inside = np.arange(flat.sum()) - np.repeat(np.cumsum(flat) - flat, flat)
        candidate = order[np.repeat(low.ravel(), flat) + inside]
        near = ((terminals[candidate] - place[who]) ** 2).sum(axis=1) < RADIUS**2
        found.append(candidate[near].astype(np.int32))
        counts.append(np.bincount(who[near], minlength=len(place)))
    return np.cumsum(np.concatenate(counts)), np.concatenate(found)
