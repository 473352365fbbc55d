"""A project such as a reader of the pages has after `make run`, but small: two runs, two models."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from caudal.backends import open_storage
from caudal.contract import Contract
from caudal.environment import load_environment
from pipeline.cli import cli


@pytest.fixture(scope="session")
def project(repository: Path, tmp_path_factory: pytest.TempPathFactory, bank_contract: Contract) -> Path:
    """A folder with the repository's contracts, environments and data, and a replay's root in its place."""
    from pipeline.replay.sample import deliveries, find_sample, land

    folder = tmp_path_factory.mktemp("project")
    for name in ("contracts", "environments", "data"):
        (folder / name).symlink_to(repository / name)
    root = folder / ".caudal" / "replay" / bank_contract.name
    root.mkdir(parents=True)
    # Who replays has these runs there, who calls `caudal run` has them here.
    (folder / ".caudal" / "local").symlink_to(root)
    environment = load_environment(folder / "environments" / "local.yaml", root)
    files = find_sample(repository, bank_contract.name, None)
    months = {delivery.label: delivery for delivery in deliveries(bank_contract, files, "month")}
    storage = open_storage(environment)
    landing = environment.landing(bank_contract.name)
    # The months after which the first and the second model go live in the whole replay.
    for first, last in (("2008-05", "2008-08"), ("2008-10", "2009-02")):
        for label, delivery in months.items():
            if first <= label <= last:
                land(delivery, bank_contract, storage, landing)
        as_of = months[last].as_of
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            done = CliRunner().invoke(
                cli, ["run", bank_contract.name, "--as-of", as_of.isoformat(), "--root", str(root)]
            )
        assert done.exit_code == 0, (done.output, done.exception)
        assert "promote   ok" in done.output, done.output
    return folder
