"""A trial from requests to the verdict: servers answer by two models, labels come due, the monitor decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from caudal.contract import Contract
from caudal.environment import Environment
from caudal.promotions import Promotions
from caudal.serving_environment import ChallengerTraffic
from caudal.tables import served_table
from monitor.step import outcomes
from tests.serving.made import Served, bank_rows, make_model, promote, served, until
from tests.world import World, day

CHAMPION_SINCE, CHALLENGER_SINCE = day("2009-04-01"), day("2009-04-15")
EARLY, LANDED, DUE = day("2009-04-20"), day("2009-06-01"), day("2009-06-20")
ROWS = 3000


@pytest.fixture(scope="module")
def asked(repository: Path, bank_contract: Contract) -> pa.Table:
    """Contacts from the day after the challenger went on trial."""
    rows = bank_rows(repository, bank_contract)
    when = rows.column(bank_contract.event_time)
    return rows.filter(pc.greater(when, pa.scalar(CHALLENGER_SINCE.date()))).slice(0, ROWS)


def upside_down(contract: Contract, rows: pa.Table) -> pa.Table:
    """The same with every label wrong, to learn a bad model from."""
    name = contract.label.column
    labels = pc.if_else(pc.equal(rows.column(name), "yes"), "no", "yes")
    return rows.set_column(rows.schema.get_field_index(name), name, labels)


@pytest.fixture
def environment(local_environment: Environment) -> Environment:
    """A server looks at the ledger at every request, and gives a challenger half of the keys."""
    traffic = ChallengerTraffic(share=0.5, shadow=False)
    serving = local_environment.serving.model_copy(update={"look_every": timedelta(), "challenger": traffic})
    return local_environment.model_copy(update={"serving": serving})


class Trial:
    """A champion, a challenger and a server of both."""

    def __init__(self, world: World, asked: pa.Table, challenger_is: str) -> None:
        self.world, self.asked = world, asked
        contract, environment, storage = world.contract, world.environment, world.storage
        good = make_model(storage, environment, contract, asked, rounds=30)
        bad = make_model(storage, environment, contract, upside_down(contract, asked), rounds=3)
        self.champion, self.challenger = (bad, good) if challenger_is == "better" else (good, bad)
        promote(storage, environment, self.champion, as_of=CHAMPION_SINCE)
        promote(storage, environment, self.challenger, as_of=CHALLENGER_SINCE, role="challenger")

    @contextmanager
    def server(self) -> Iterator[Served]:
        with served(self.world.contract, self.world.environment, self.world.storage) as running:
            yield running

    def ask(self, server: Served, rows: pa.Table) -> list[dict[str, Any]]:
        """The server's answers to these rows, over HTTP."""
        contract = self.world.contract
        names = [contract.key, contract.event_time, *(feature.name for feature in contract.model_features())]
        answers: list[dict[str, Any]] = []
        for batch in rows.select(names).to_batches(max_chunksize=500):
            instances = batch.to_pylist()
            for instance in instances:
                instance[contract.event_time] = instance[contract.event_time].isoformat()
            response = server.client.post("/v1/predict/batch", json={"instances": instances})
            assert response.status_code == 200, response.text
            answers += response.json()["predictions"]
        return answers

    def land(self, rows: pa.Table, as_of: datetime) -> None:
        """The same rows in the warehouse, with their labels."""
        self.world.arrive({name: rows.column(name) for name in rows.schema.names}, as_of)

    def outcomes(self, as_of: datetime) -> dict[str, Any]:
        return outcomes(self.world.context(as_of))

    @property
    def ledger(self) -> Promotions:
        uri = self.world.environment.ledger(self.world.contract.name, "promotions")
        return Promotions(self.world.storage, uri)

    def rows_served(self) -> int:
        (row,) = self.world.rows(f"SELECT COUNT(*) AS n FROM {served_table(self.world.contract).sql_name}")
        return int(row["n"])


@pytest.fixture
def begin(bank_contract: Contract, environment: Environment, asked: pa.Table) -> Any:
    return lambda challenger_is: Trial(World(bank_contract, environment), asked, challenger_is)


def losses(contract: Contract, asked: pa.Table, answers: list[dict[str, Any]], arm: str) -> np.ndarray:
    """Brier scores of the answers of one arm, from what HTTP said and the file's labels."""
    names = (contract.key, contract.label.column)
    labels = dict(zip(*(asked.column(name).to_pylist() for name in names), strict=True))
    return np.array([(one["score"] - (labels[one["key"]] == "yes")) ** 2 for one in answers if one["arm"] == arm])


@pytest.mark.parametrize(("challenger_is", "verdict"), [("better", "promote"), ("worse", "drop")])
def test_a_challenger_is_promoted_or_dropped_by_what_came_of_its_answers(
    begin: Any, bank_contract: Contract, asked: pa.Table, challenger_is: str, verdict: str
) -> None:
    trial = begin(challenger_is)
    with trial.server() as server:
        answers = trial.ask(server, asked)
        # A second request about a key counts for nothing.
        trial.ask(server, asked.slice(0, 300))

        early = trial.outcomes(EARLY)
        assert early["served"]["rows"] == ROWS + 300
        assert early["trial"]["verdict"] == "go on"
        assert (
            early["trial"]["live"]["challenger"]["answered"] + early["trial"]["live"]["champion"]["answered"]
            == ROWS
        )

        trial.land(asked, LANDED)
        decided = trial.outcomes(DUE)

        found = decided["trial"]
        assert (found["verdict"], found["decided_by"]) == (verdict, "live")
        for arm in ("champion", "challenger"):
            expected = losses(bank_contract, asked, answers, arm)
            assert found["live"][arm]["rows"] == len(expected) > 1300
            assert found["live"][arm]["loss"] == pytest.approx(expected.mean(), abs=1e-8)
        head = trial.ledger.head()
        wanted = trial.challenger if verdict == "promote" else trial.champion
        assert (head.version, head.as_of, head.evidence["live"]) == (wanted.version, DUE, found["live"])
        assert trial.ledger.challenger() is None

        # Twice is once.
        assert trial.outcomes(DUE) == decided
        assert len(trial.ledger.history()) == 3
        assert trial.rows_served() == ROWS + 300

        # And the server answers by the verdict.
        def now() -> set[tuple[str, str]]:
            return {(one["model_version"], one["arm"]) for one in trial.ask(server, asked.slice(0, 50))}

        until(lambda: now() == {(wanted.version, "champion")})


class Killed(BaseException):
    """As if the process had been killed."""


@pytest.mark.parametrize("at", ["monitor.trial.run_trial", "monitor.trial.conclude", "monitor.step.last_training"])
def test_a_step_that_is_killed_between_load_and_verdict_ends_as_one_clean_run_does(
    begin: Any, asked: pa.Table, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    trial = begin("better")

    def killed(*_: Any) -> None:
        raise Killed

    with trial.server() as server:
        first, second = asked.slice(0, ROWS - 500), asked.slice(ROWS - 500)
        trial.ask(server, first)
        trial.land(asked, LANDED)
        with monkeypatch.context() as patch:
            patch.setattr(at, killed)
            with pytest.raises(Killed):
                trial.outcomes(DUE)
        # Answers go on while the step is down.
        trial.ask(server, second)

        decided = trial.outcomes(DUE)

    assert decided["served"]["rows"] == trial.rows_served() == ROWS - 500
    assert decided["trial"]["verdict"] == "promote"
    assert trial.ledger.head().version == trial.challenger.version
    assert len(trial.ledger.history()) == 3
    assert trial.outcomes(DUE + timedelta(days=1))["served"]["rows"] == 500
