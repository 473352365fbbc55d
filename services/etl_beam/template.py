"""The Flex Template's description, from the parameters that the code takes.

python -m etl_beam.template --image europe-docker.pkg.dev/project/images/etl_beam@sha256:...
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from etl_beam.parameters import PARAMETERS


def container_spec(image: str) -> dict[str, Any]:
    """`ContainerSpec` of Dataflow's API: what a launch reads from `containerSpecGcsPath`.

    Args:
        image: the image of launcher and workers, by digest.
    """
    return {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": {
            "name": "Caudal: lake to warehouse",
            "description": "Checks the lake's gain, keeps one row a key, derives features, and commits once.",
            "parameters": [
                {
                    "name": parameter.name,
                    "label": parameter.label,
                    "helpText": parameter.help,
                    "isOptional": parameter.optional,
                    "regexes": [f"^{parameter.pattern}$"],
                    "paramType": "TEXT",
                }
                for parameter in PARAMETERS
            ],
        },
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m etl_beam.template", description=__doc__.split("\n\n")[0])
    parser.add_argument("--image", required=True, help="image of launcher and workers, by digest")
    arguments = parser.parse_args(argv)
    print(json.dumps(container_spec(arguments.image), indent=2, sort_keys=True))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
