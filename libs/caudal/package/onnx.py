"""The booster for ONNX Runtime, with proof that it says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caudal.errors import PackageError

if TYPE_CHECKING:
    import xgboost as xgb

INPUT = "features"
TOLERANCE = 1e-5
_OPSET = 15


def to_onnx(booster: xgb.Booster) -> bytes:
    """Converts a booster; the same booster gives the same bytes.

    The converter would name the graph at random, and takes only features that are named by number.
    """
    import onnxmltools
    import xgboost as xgb
    from onnxmltools.convert.common.data_types import FloatTensorType

    plain = xgb.Booster(model_file=bytearray(booster.save_raw("ubj")))
    plain.feature_names = None
    model = onnxmltools.convert_xgboost(
        plain,
        name="caudal",
        initial_types=[(INPUT, FloatTensorType([None, booster.num_features()]))],
        target_opset=_OPSET,
    )
    made: bytes = model.SerializeToString(deterministic=True)
    return made


class OnnxModel:
    """An ONNX model on one thread: a request's cost is then the same whatever else runs."""

    def __init__(self, model: bytes, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        # A classifier gives labels and probabilities, a regressor values: the last output is the one wanted.
        self._output = [self._session.get_outputs()[-1].name]

    def predict(self, matrix: NDArray[np.float32]) -> NDArray[Any]:
        """Probabilities of the positive class (n,), of each class (n, classes), or values (n,)."""
        (scores,) = self._session.run(self._output, {INPUT: np.ascontiguousarray(matrix)})
        made = np.asarray(scores, dtype=np.float64)
        if made.ndim == 2 and made.shape[1] <= 2:
            made = made[:, -1]
        return made


def prove_parity(model: bytes, matrix: NDArray[np.float32], expected: NDArray[Any]) -> float:
    """The largest difference between the ONNX model and the booster's own raw scores.

    Raises:
        PackageError: it is above 1e-5 of the scores' size.
    """
    if not len(matrix):
        return 0.0
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(OnnxModel(model).predict(matrix) - expected).max())
    if not difference <= TOLERANCE * scale:
        raise PackageError(
            f"ONNX Runtime's scores differ from XGBoost's by {difference:.3g}",
            where="model.onnx",
            mend="report it with the booster: the converter does not fit this version of XGBoost",
        )
    return difference
