"""Who CI is in an environment's project: `python -m pipeline.release.identity dev plan`.

Prints what `google-github-actions/auth` asks for, one `name=value` a line, from the environment's own file: no
project number is kept a second time in GitHub's settings.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from caudal.errors import CaudalError, UsageError

# As the bootstrap stack names the pool and its provider.
POOL = "github"


def identity(environment: str, deployer: str) -> dict[str, str]:
    """The identity provider and the account.

    Args:
        environment: its name.
        deployer: `plan` or `apply`.

    Raises:
        UsageError: there is no such deployer.
    """
    from infra.environments import load_deployment

    if deployer not in ("plan", "apply"):
        raise UsageError(f"there is no deployer '{deployer}'", mend="say plan or apply")
    deployment = load_deployment(environment)
    cloud, names = deployment.cloud, deployment.names
    pool = f"projects/{cloud.project_number}/locations/global/workloadIdentityPools/{POOL}"
    return {
        "provider": f"{pool}/providers/{POOL}",
        "account": names.account(f"ci-{deployer}"),
        "registry": f"{names.region}-docker.pkg.dev",
    }


def main(arguments: Sequence[str]) -> int:
    """Prints the identity; returns the exit status."""
    try:
        for name, value in identity(*arguments).items():
            print(f"{name}={value}")
    except CaudalError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
