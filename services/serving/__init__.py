"""Serving: FastAPI and ONNX Runtime over a model package, for one contract."""
