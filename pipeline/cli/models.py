"""`caudal models`: what there is, what is live, what was live when, and the way back."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import Instant, as_of_option, contract_argument, environment_options, json_option

if TYPE_CHECKING:
    from caudal.promotions import Promotion
    from pipeline.registry import Registry

version_argument = click.argument("version", metavar="VERSION")


def _not_empty(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if not value.strip():
        raise click.BadParameter("say why: the ledger keeps it", context, parameter)
    return value.strip()


reason_option = click.option("--reason", required=True, callback=_not_empty, help="Why; it is kept in the ledger.")


@click.group("models", epilog="Examples: `caudal models list bank_marketing`, `caudal models rollback --help`.")
def command() -> None:
    """List, show, compare, promote and roll back models.

    VERSION is a model's version, the beginning of one, `champion` or `challenger`.
    """


@command.command("list", epilog="Example: `caudal models list bank_marketing`.")
@contract_argument
@environment_options
@json_option
def list_(contract: str, env: str, root: Path | None, as_json: bool) -> None:
    """List the models of CONTRACT, in the order in which they were trained."""
    from pipeline.cli.output import show_json, show_table

    registry = _registry(contract, env, root)
    found = list(registry.listing())
    if as_json:
        show_json(found)
        return
    if not found:
        click.echo(f"no model of {contract} yet: call `caudal run {contract}`")
        return
    rows = [
        (
            one["version"],
            one["role"],
            one["trained_until"][:10],
            one["rows"],
            _figure(one["value"]),
            one["promotions"][-1]["as_of"][:10] if one["promotions"] else None,
        )
        for one in found
    ]
    columns = ("version", "role", "trained until", "rows", found[0]["metric"], "promoted as of")
    show_table(columns, rows, numbers=("rows", found[0]["metric"]))


@command.command("show", epilog="Example: `caudal models show bank_marketing champion`.")
@contract_argument
@version_argument
@environment_options
@json_option
def show(contract: str, version: str, env: str, root: Path | None, as_json: bool) -> None:
    """Show one model of CONTRACT: its card, and what the ledger says of it."""
    from pipeline.cli.output import show_json

    registry = _registry(contract, env, root)
    package = registry.open(version)
    standing = registry.standing(package.version)
    if as_json:
        show_json({**package.metadata, **standing, "package": package.uri})
        return
    click.echo(package.card)
    click.echo("## In the ledger\n")
    for entry in standing["promotions"]:
        evidence = (entry["evidence"] or {}).get("reason") or ""
        click.echo(
            f"- {entry['as_of'][:10]} {entry['kind']} to {entry['role']} by {entry['by']}: {entry['reason']}"
        )
        if evidence:
            click.echo(f"  {evidence}")
    if not standing["promotions"]:
        click.echo("It was never promoted.")


@command.command(
    "history",
    epilog="Examples: `caudal models history bank_marketing`, "
    "`caudal models history bank_marketing --at 2009-05-01`.",
)
@contract_argument
@click.option("--at", "moment", type=Instant(), help="Only what was live at this instant.")
@environment_options
@json_option
def history(contract: str, moment: datetime | None, env: str, root: Path | None, as_json: bool) -> None:
    """Tell which model of CONTRACT was live when, why, and by whose decision."""
    from caudal.errors import NotFound
    from caudal.identity import format_instant
    from pipeline.cli.output import show_json, show_table

    registry = _registry(contract, env, root)
    reigns = registry.reigns()
    if moment is not None:
        live = registry.promotions.live_at(moment)
        reigns = [reign for reign in reigns if live is not None and reign.promotion.number == live.number]
        if not reigns:
            raise NotFound(
                f"no model was live at {format_instant(moment)}",
                where=contract,
                mend=f"see the whole history: `caudal models history {contract}`",
            )
    if as_json:
        show_json([reign.to_json() for reign in reigns])
        return
    if not reigns:
        click.echo(f"no model of {contract} was ever live: `caudal run {contract}` makes one")
        return
    rows = [
        (
            reign.promotion.number,
            reign.promotion.version,
            str(reign.promotion.as_of)[:10],
            str(reign.until)[:10] if reign.until else "now",
            reign.promotion.reason
            if reign.promotion.kind == "promotion"
            else f"rollback: {reign.promotion.reason}",
            reign.promotion.by.split()[0],
        )
        for reign in reigns
    ]
    show_table(("entry", "version", "live after", "until", "why", "by"), rows, numbers=("entry",))


@command.command("diff", epilog="Example: `caudal models diff bank_marketing 07ad champion`.")
@contract_argument
@click.argument("one", metavar="A")
@click.argument("two", metavar="B")
@environment_options
@json_option
def diff(contract: str, one: str, two: str, env: str, root: Path | None, as_json: bool) -> None:
    """Tell what changed from model A to model B of CONTRACT: data, contract, code, metrics."""
    from pipeline.cli.output import show_json, show_table
    from pipeline.registry import differences

    registry = _registry(contract, env, root)
    first, second = registry.open(one), registry.open(two)
    found = differences(first, second)
    if as_json:
        show_json({"versions": [first.version, second.version], **found})
        return
    heads = (first.version, second.version)
    facts = [(name, *map(_plain, pair)) for name, pair in found["facts"].items()]
    show_table(("what differs", *heads), facts or [("nothing", "", "")])
    metrics = [(name, *map(_figure, pair)) for name, pair in found["metrics"].items()]
    show_table(("metric, each on its own judging rows", *heads), metrics, numbers=heads)
    click.echo("\n".join(found["contract"]) or "The contract is the same.")


@command.command(
    "promote", epilog="Example: `caudal models promote bank_marketing 07ad --reason 'agreed with risk'`."
)
@contract_argument
@version_argument
@reason_option
@as_of_option
@environment_options
@json_option
def promote(
    contract: str,
    version: str,
    reason: str,
    as_of: datetime | None,
    env: str,
    root: Path | None,
    as_json: bool,
) -> None:
    """Make a packaged model of CONTRACT the champion by your decision; the ledger keeps who and why."""
    registry = _registry(contract, env, root)
    moment = as_of or _latest(registry, env, root)
    entry = registry.promote(version, as_of=moment, by=_me(), reason=reason, commit=_commit())
    _followed(registry, env, root)
    _said(entry, as_json)


@command.command("rollback", epilog="Example: `caudal models rollback bank_marketing --reason 'wrong scores'`.")
@contract_argument
@reason_option
@as_of_option
@environment_options
@json_option
def rollback(
    contract: str, reason: str, as_of: datetime | None, env: str, root: Path | None, as_json: bool
) -> None:
    """Make the champion of CONTRACT before the present one live again.

    Servers take it up at their next look at the ledger, runs with the next as-of.
    """
    registry = _registry(contract, env, root)
    moment = as_of or _latest(registry, env, root)
    entry = registry.promotions.roll_back(as_of=moment, by=_me(), reason=reason, commit=_commit())
    _followed(registry, env, root)
    _said(entry, as_json)


def _registry(contract: str, env: str, root: Path | None) -> Registry:
    from caudal.backends import open_storage
    from pipeline.project import find_contract, find_environment
    from pipeline.registry import Registry

    environment = find_environment(env, root)
    return Registry(find_contract(contract), environment, open_storage(environment))


def _latest(registry: Registry, env: str, root: Path | None) -> datetime:
    """The as-of of the last run, so that the decision holds from the next one on; the clock's before any run."""
    from datetime import UTC

    from caudal.backends import open_storage
    from pipeline.project import find_environment
    from pipeline.runs import list_runs

    environment = find_environment(env, root)
    runs = list_runs(open_storage(environment), environment, registry.contract.name)
    moments = [run.as_of for run, _ in runs]
    head = registry.promotions.head()
    if head is not None:
        moments.append(head.as_of)
    return max(moments, default=datetime.now(UTC))


def _followed(registry: Registry, env: str, root: Path | None) -> None:
    """MLflow's aliases, and the cloud's registry, follow the ledger."""
    from caudal.following import follow
    from pipeline.project import find_environment

    follow(registry.contract, find_environment(env, root), registry.promotions)


def _said(entry: Promotion, as_json: bool) -> None:
    from pipeline.cli.output import show_json

    if as_json:
        show_json({**entry.to_json(), "number": entry.number})
    else:
        click.echo(f"{entry.version} is the champion for all that arrives after {str(entry.as_of)[:16]} UTC")


def _me() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _commit() -> str:
    from pipeline.runs import git_commit

    return git_commit()


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"


def _plain(value: Any) -> str:
    return "" if value is None else str(value)
