"""Serves the Cloud Storage emulator with the preconditions that it leaves out.

Runs in the emulators' own environment: python serve_gcs.py PORT. The emulator accepts `ifGenerationMatch` and
ignores it, and creating an object exclusively is what Caudal's ledger stands on. It serves one request after the
other, so looking first and writing then is one act here.
"""

from __future__ import annotations

import sys
from http import HTTPStatus
from typing import Any

from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects


def refused(request: Any, storage: Any) -> bool:
    """Whether the request asks for an object that must not exist yet, and it exists."""
    if request.query.get("ifGenerationMatch") != ["0"]:
        return False
    data = request.data
    meta = data.get("meta", data) if isinstance(data, dict) else {}
    name = request.query.get("name", [meta.get("name")])[0]
    if name is None:  # a chunk of a resumable upload: the session knows the name
        name = storage.resumable.get(request.query["upload_id"][0], {}).get("name")
    try:
        storage.get_file_obj(request.params["bucket_name"], name)
    except NotFound:
        return False
    return True


def guarded(handler: Any) -> Any:
    def handle(request: Any, response: Any, storage: Any, *arguments: Any, **named: Any) -> Any:
        if refused(request, storage):
            response.status = HTTPStatus.PRECONDITION_FAILED
            response.json({"error": {"code": 412, "message": "At least one precondition did not hold."}})
            return None
        return handler(request, response, storage, *arguments, **named)

    return handle


def cancelled(request: Any, response: Any, storage: Any, *arguments: Any, **named: Any) -> None:
    """Gives up a resumable upload."""
    storage.resumable.pop(request.query["upload_id"][0], None)
    response.status = HTTPStatus.NO_CONTENT


def main() -> None:
    writers = {objects.insert, objects.upload_partial}
    guards = {handler: guarded(handler) for handler in writers}
    objects.insert, objects.upload_partial = guards[objects.insert], guards[objects.upload_partial]
    for _, handlers in server.HANDLERS:
        for method, handler in list(handlers.items()):
            if handler in writers:
                handlers[method] = guards[handler]
                handlers["DELETE"] = cancelled
    running = server.create_server("127.0.0.1", int(sys.argv[1]), in_memory=True)
    running.run()


if __name__ == "__main__":
    main()
