"""The storage port: objects under URIs, on a laptop's disk or in Cloud Storage."""

from caudal.storage.port import Storage, StoredObject, join

__all__ = ["Storage", "StoredObject", "join"]
