"""The search for parameters: the contract's space, on time-ordered folds, seeded and resumable.

Every trial is scored on blocks of rows that lie after those it learned, as in operation; their mean decides. Trial
0 is the contract as it stands. Finished trials are a log, and each new one is drawn from what that log holds: a
search that was stopped goes on, and ends where one without a stop would have ended. The search changes nothing: it
ends in a proposed edit of the contract.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from caudal import metrics
from caudal.contract.modelling import Search, XgboostParameters
from caudal.errors import AlreadyExists, UsageError
from caudal.identity import SHORT, digest
from caudal.ledger import Log

if TYPE_CHECKING:
    import optuna

    from caudal.contract import Contract
    from caudal.storage import Storage
    from trainer.snapshot import Rows, Snapshot

Values = dict[str, float | int | str]


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included."""

    low: float
    high: float
    whole: bool
    log: bool


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    options: tuple[float | str, ...]


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Attributes:
        value: the mean of the folds' figures.
        folds: the figure of each fold, in the order of time.
    """

    number: int
    values: Values
    value: float
    folds: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        return {"number": self.number, "values": self.values, "value": self.value, "folds": list(self.folds)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Trial:
        return Trial(value["number"], dict(value["values"]), value["value"], tuple(value["folds"]))


def space(search: Search) -> dict[str, Range | Choice]:
    """What each searched parameter may be: two numbers are a range, all else are choices.

    Raises:
        UsageError: a range is empty.
    """
    found: dict[str, Range | Choice] = {}
    for name, said in search.space.items():
        numbers = [value for value in said if not isinstance(value, str)]
        if len(said) == 2 and len(numbers) == 2:
            low, high = numbers
            whole = XgboostParameters.model_fields[name].annotation is int
            log = name in search.log
            if low >= high or (log and low <= 0):
                raise UsageError(
                    f"the search of '{name}' goes from {low:g} to {high:g}",
                    where="model.search.space",
                    mend="write [smallest, largest]; a logarithmic scale starts above 0",
                )
            found[name] = Range(low, high, whole, log)
        else:
            found[name] = Choice(said)
    return found


def study_id(contract: Contract, snapshot: Snapshot) -> str:
    """The identity of a search: rows, recipe, space. More trials go on with the same search."""
    search = _search(contract)
    said = {k: v for k, v in search.model_dump(mode="json").items() if k != "trials"}
    return digest("search", snapshot.id, contract.model_digest(), contract.gate.metric, said)[:SHORT]


def folds(contract: Contract, rows: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Positions (learned, judged) of each fold: consecutive blocks at the end, each after all that it learns.

    Raises:
        UsageError: there are too few rows.
    """
    count, train_on = _search(contract).folds, contract.model.train_on
    block = max(contract.gate.minimum_rows, int(rows * train_on.judge_share) // count)
    latest = rows if train_on.latest is None else train_on.latest
    first = rows - block * count
    if first < train_on.minimum:
        raise UsageError(
            f"{rows} rows are too few for {count} folds of {block} after {train_on.minimum} to learn",
            where=contract.name,
            mend="search with fewer folds, or wait for more rows",
        )
    found = []
    for fold in range(count):
        start = first + fold * block
        found.append(((max(0, start - latest), start), (start, start + block)))
    return found


def evaluate(contract: Contract, snapshot: Snapshot, values: Values) -> tuple[float, ...]:
    """The metric of each fold with these parameters."""
    tried = with_parameters(contract, values)
    return tuple(
        _figure(tried, snapshot.part(*learned), snapshot.part(*judged))
        for learned, judged in folds(contract, snapshot.rows)
    )


def with_parameters(contract: Contract, values: Values) -> Contract:
    """The contract with other parameters.

    Raises:
        UsageError: a value is outside what the parameter may be.
    """
    try:
        said = {**contract.model.parameters.model_dump(), **values}
        parameters = XgboostParameters.model_validate(said)
    except ValueError as error:
        raise UsageError(str(error), where="model.search", mend="mend the space") from error
    return contract.model_copy(update={"model": contract.model.model_copy(update={"parameters": parameters})})


def run_search(
    contract: Contract,
    snapshot: Snapshot,
    storage: Storage,
    uri: str,
    trials: int | None = None,
    after_each: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Runs or goes on with a search until it has its trials.

    Args:
        uri: where finished trials are kept.
        trials: instead of the contract's number.

    Returns:
        every trial, in order.
    """
    search = _search(contract)
    wanted = search.trials if trials is None else trials
    log = Log(storage, uri)
    done = [Trial.from_json(entry) for entry in log.entries()]
    for trial in done[:wanted]:
        if after_each:
            after_each(trial)
    while len(done) < wanted:
        values = own_values(contract) if not done else _suggest(contract, done)
        figures = evaluate(contract, snapshot, values)
        trial = Trial(len(done), values, float(np.mean(figures)), figures)
        try:
            log.append(trial.to_json(), after=len(done))
        except AlreadyExists:  # a second searcher was first, with the same trial
            trial = Trial.from_json(log.entries()[len(done)])
        done.append(trial)
        if after_each:
            after_each(trial)
    return done[:wanted]


def best(contract: Contract, trials: list[Trial]) -> Trial:
    """The best trial; the contract's own parameters win a draw."""
    way = metrics.sign(metric_name(contract))
    return max(trials, key=lambda trial: (way * trial.value, -trial.number))


def metric_name(contract: Contract) -> str:
    """What the search makes best."""
    return _search(contract).metric or contract.gate.metric


def own_values(contract: Contract) -> Values:
    """The searched parameters as the contract says them."""
    said = contract.model.parameters.model_dump()
    return {name: said[name] for name in _search(contract).space}


def parameter_specs(search: Search) -> list[dict[str, Any]]:
    """The space as Vertex AI's `StudySpec.ParameterSpec`s."""
    specs: list[dict[str, Any]] = []
    for name, where in space(search).items():
        spec: dict[str, Any] = {"parameterId": name}
        if isinstance(where, Choice):
            if any(isinstance(option, str) for option in where.options):
                spec["categoricalValueSpec"] = {"values": [str(option) for option in where.options]}
            else:
                spec["discreteValueSpec"] = {"values": sorted(float(option) for option in where.options)}
        elif where.whole:
            spec["integerValueSpec"] = {"minValue": str(int(where.low)), "maxValue": str(int(where.high))}
        else:
            spec["doubleValueSpec"] = {"minValue": where.low, "maxValue": where.high}
        if isinstance(where, Range):
            spec["scaleType"] = "UNIT_LOG_SCALE" if where.log else "UNIT_LINEAR_SCALE"
        specs.append(spec)
    return specs


def _search(contract: Contract) -> Search:
    if contract.model.search is None:
        raise UsageError(
            "the contract has no search", where=contract.where("model"), mend="add model.search with a space"
        )
    return contract.model.search


def _figure(contract: Contract, learned: Rows, judged: Rows) -> float:
    from caudal.package import Encoder
    from trainer.boosting import fit

    encoder = Encoder.fit(contract, learned.batches())
    booster = fit(contract, encoder, learned, contract.model.parameters.n_estimators).booster
    scores = judged.scores(booster, encoder)
    value = metrics.metric(metric_name(contract), contract.task)(judged.labels, scores)
    if not math.isfinite(value):
        raise UsageError(
            f"a fold's rows give no {metric_name(contract)}",
            where=contract.name,
            mend="search with fewer folds: each needs rows of every class",
        )
    return value


def _suggest(contract: Contract, done: list[Trial]) -> Values:
    """The next values: drawn by TPE (Bergstra et al., 2011) from the finished trials alone."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = _search(contract)
    where = space(search)
    distributions = dict(_distributions(where))
    way = metrics.sign(metric_name(contract))
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=search.seed + len(done), n_startup_trials=5)
    )
    for trial in done:
        if all(_within(where[name], value) for name, value in trial.values.items()):
            study.add_trial(
                optuna.trial.create_trial(
                    params=trial.values, distributions=distributions, value=way * trial.value
                )
            )
    asked = study.ask(distributions)
    return {name: _rounded(asked.params[name]) for name in where}


def _rounded(value: float | int | str) -> float | int | str:
    """Four digits are enough, and what is proposed is then exactly what was tried."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _distributions(
    where: Mapping[str, Range | Choice],
) -> Iterator[tuple[str, optuna.distributions.BaseDistribution]]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    for name, one in where.items():
        if isinstance(one, Choice):
            yield name, CategoricalDistribution(one.options)
        elif one.whole:
            yield name, IntDistribution(int(one.low), int(one.high), log=one.log)
        else:
            yield name, FloatDistribution(one.low, one.high, log=one.log)


def _within(where: Range | Choice, value: float | int | str) -> bool:
    if isinstance(where, Choice):
        return value in where.options
    return not isinstance(value, str) and where.low <= value <= where.high
