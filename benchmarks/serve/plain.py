"""The yardstick: a FastAPI endpoint with no model, in the same server.

It reads a request with the same fields, by FastAPI's own means, and answers what a prediction would look like.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import create_model

from serving.service import Prediction


def plain_app(example: dict[str, Any]) -> FastAPI:
    """The application for requests such as `example`."""
    fields: dict[str, Any] = {name: (type(value), ...) for name, value in example.items()}
    instance = create_model("Instance", **fields)
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})

    async def answer(instance: Any) -> Prediction:
        return {
            "id": "0" * 32,
            "key": 1,
            "score": 0.0426202590415,
            "prediction": "no",
            "model_version": "0" * 16,
            "arm": "champion",
            "flags": [],
        }

    answer.__annotations__["instance"] = instance
    app.post("/v1/predict")(answer)
    return app


if __name__ == "__main__":
    uvicorn.run(
        plain_app(json.loads(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), log_level="error",
        access_log=False, ws="none", server_header=False,
    )  # fmt: skip
