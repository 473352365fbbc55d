"""What every stack has: the provider with the environment's project and labels, and its state's place."""

from __future__ import annotations

import os
from pathlib import Path

from cdktf import GcsBackend, LocalBackend, TerraformStack
from cdktf_cdktf_provider_google.provider import GoogleProvider
from constructs import Construct

from infra.environments import Deployment

STATE_VARIABLE = "CAUDAL_STATE"


class Stack(TerraformStack):
    """A stack of one environment.

    Its state lies in the project's state bucket. CAUDAL_STATE=local keeps it in a file instead: only the bootstrap
    stack needs that, once, before the bucket exists (docs/deploy.md).
    """

    def __init__(self, scope: Construct, name: str, deployment: Deployment) -> None:
        super().__init__(scope, name)
        self.deployment = deployment
        cloud, names = deployment.cloud, deployment.names
        GoogleProvider(
            self,
            "google",
            project=cloud.project,
            region=cloud.region,
            # Budgets ask which project's quota pays for the request.
            user_project_override=True,
            billing_project=cloud.project,
            default_labels={**cloud.labels, "environment": deployment.name, "managed-by": "caudal", "stack": name},
        )
        if os.environ.get(STATE_VARIABLE) == "local":
            # Where one works, and not beside the stack: the next synthesis clears that folder.
            LocalBackend(self, path=str(Path(f"{name}.tfstate").absolute()))
        else:
            GcsBackend(self, bucket=names.bucket("state"), prefix=f"caudal/{name}")
