"""`caudal release` and `caudal publish`: what is deployed is built, and what was deployed is put to use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import json_option

if TYPE_CHECKING:
    from infra.environments import Deployment

_environment = click.option(
    "--env", required=True, envvar="CAUDAL_ENV", help="A cloud environment: dev, for example."
)


def _deployment(name: str) -> Deployment:
    from infra.environments import load_deployment
    from pipeline.project import project_root

    return load_deployment(name, project_root())


@click.command(
    "release",
    epilog="Examples: `caudal release --env dev --dry-run`, `caudal release --env staging --from dev`.",
)
@_environment
@click.option("--unit", "units", multiple=True, help="Only this unit; others keep their digest. May be repeated.")
@click.option("--from", "source", metavar="ENV", help="Bring the release that was built for ENV; build nothing.")
@click.option("--deployed", is_flag=True, help="Fetch the release that --env runs; build nothing.")
@click.option("--check", is_flag=True, help="Build without a registry, to see that it builds; write nothing.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What `--dry-run --json` told of another commit: leave out the units that are still the same.",
)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Where release.json is written.")
@click.option("--dry-run", is_flag=True, help="Tell what is built from what; call nothing, write nothing.")
@json_option
def command(
    env: str,
    units: tuple[str, ...],
    source: str | None,
    deployed: bool,
    check: bool,
    against: Path | None,
    output: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build images and zips by their content, and write release.json, as CI does.

    Needs docker with buildx and credentials for the environment's registry. A unit whose content was built before
    is not built again.
    """
    from infra.release import load_release, release_path
    from pipeline.cli.output import show_json, show_table
    from pipeline.project import project_root
    from pipeline.release.units import choose_units

    root = project_root()
    chosen = choose_units(root, units)
    if against is not None:
        told_before = {row["unit"]: row["content"] for row in json.loads(against.read_text())["units"]}
        chosen = tuple(unit for unit in chosen if told_before.get(unit.name) != unit.content())
    if dry_run:
        rows = [{"unit": u.name, "kind": u.kind, "content": u.content(), "files": len(u.files())} for u in chosen]
        if as_json:
            show_json({"environment": env, "units": rows})
        else:
            show_table(["unit", "kind", "content", "files"],
                       [(r["unit"], r["kind"], str(r["content"])[:16], r["files"]) for r in rows],
                       numbers=["files"])  # fmt: skip
        return

    from pipeline.release.build import check_build

    if check:
        for unit in chosen:
            check_build(unit)
            if not as_json:
                click.echo(f"{unit.name}: it builds")
        if as_json:
            show_json({"environment": env, "built": [unit.name for unit in chosen]})
        return

    from caudal.backends import open_storage
    from caudal.errors import UsageError
    from caudal.storage.port import to_json
    from infra.release import Release
    from pipeline.release.build import Builder, Built
    from pipeline.release.publish import release_uri
    from pipeline.runs import git_commit

    deployment = _deployment(env)
    storage = open_storage(deployment.environment)
    builder = Builder(deployment.names, storage, git_commit())
    path = output or release_path(root)
    if deployed:
        path.write_bytes(storage.read(release_uri(deployment.environment)))
    before = load_release(path)
    if deployed and before is not None:
        release = before
    elif source is not None:
        if before is None:
            raise UsageError(
                "there is no release to bring", where=str(path), mend=f"build it: caudal release --env {source}"
            )
        builder.copy(dict(before.units), chosen, _deployment(source).names)
        release = before
    else:

        def told(built: Built) -> None:
            if not as_json:
                click.echo(f"{built.unit}: {'built' if built.fresh else 'unchanged'} {built.digest}")

        built = builder.build(chosen, told)
        kept = before if before and units else Release(release=1, commit="", units={})
        release = Release(
            release=1,
            commit=git_commit(),
            units={**kept.units, **{b.unit: b.digest for b in built}},
            contents={**kept.contents, **{b.unit: b.content for b in built}},
            bases={**kept.bases, **{b.unit: dict(b.bases) for b in built if b.bases}},
        )
        path.write_bytes(to_json(release.model_dump(mode="json")))
    if as_json:
        show_json(release.model_dump(mode="json"))
    else:
        click.echo(f"{path}: {len(release.units)} units of commit {release.commit}")


@click.command("publish", epilog="Examples: `caudal publish --env dev`, `caudal publish --env dev --no-start`.")
@_environment
@click.option("--start/--no-start", default=True, help="Start a run of each contract with reason `code`.")
@click.option(
    "--config-only", is_flag=True, help="Publish contracts and the environment, which services start from."
)
@json_option
def publish_command(env: str, start: bool, config_only: bool, as_json: bool) -> None:
    """End a deployment: publish contracts and the environment, say what is deployed, start a run.

    Call it after `caudal apply` or `cdktf deploy`, with the same release.json. Services start from the published
    configuration: `caudal apply` publishes that first; before `cdktf deploy`, call this with --config-only.
    """
    from caudal.backends import open_storage
    from caudal.errors import UsageError
    from pipeline.cli.output import show_json
    from pipeline.release.publish import post_as_caller, publish, publish_release, start_argument, start_run
    from pipeline.runs import publish_config

    deployment = _deployment(env)
    if config_only:
        storage = open_storage(deployment.environment)
        folders = {c.name: publish_config(storage, c, deployment.environment) for c in deployment.contracts}
        if as_json:
            show_json(folders)
        else:
            click.echo("\n".join(f"{name}: {uri}" for name, uri in folders.items()))
        return
    release = deployment.release
    if release is None:
        raise UsageError(
            "there is no release to publish", where="release.json", mend=f"caudal release --env {env}"
        )
    storage = open_storage(deployment.environment)
    digests = {unit: release.digest(unit) for unit in release.units}
    publish_release(storage, deployment.environment, release.model_dump(mode="json"))
    done = []
    for contract in deployment.contracts:
        published = publish(storage, contract, deployment.environment, deployment.names, release)
        execution = ""
        if start:
            argument = start_argument(deployment.environment, digests, published.config)
            execution = start_run(deployment.names, contract.name, argument, post_as_caller)
        done.append({**vars(published), "execution": execution})
        if not as_json:
            click.echo(f"{contract.name}: {published.config}" + (f", started {execution}" if execution else ""))
    if as_json:
        show_json(done)
