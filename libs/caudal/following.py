"""What follows the promotion ledger: MLflow's aliases, and Vertex AI's Model Registry if the environment asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from caudal.tracking import Tracking

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.environment import Environment
    from caudal.promotions import Promotions


def follow(
    contract: Contract, environment: Environment, promotions: Promotions, tags: Mapping[str, str] | None = None
) -> None:
    """Brings every registry to what the ledger says; repeatable, so a failure is mended by the next promotion."""
    Tracking.of(environment).follow(contract.name, promotions, tags)
    if environment.model_registry is not None:
        from caudal.vertex_models import VertexModels

        VertexModels.of(environment.model_registry).follow(contract.name, promotions)
