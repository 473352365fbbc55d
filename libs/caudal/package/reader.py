"""Reading a model package: whole and unaltered, or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from caudal.contract import Contract, parse_contract
from caudal.errors import NotFound, PackageError
from caudal.folders import open_folder
from caudal.package.calibration import Calibrator
from caudal.package.encoder import Columns, Encoder

if TYPE_CHECKING:
    import xgboost as xgb

    from caudal.package.onnx import OnnxModel
    from caudal.storage import Storage

BOOSTER = "booster.ubj"
ONNX = "model.onnx"
CONTRACT = "contract.yaml"
ENCODER = "encoder.json"
METADATA = "metadata.json"
PROFILE = "profile.json"
EXAMPLE = "input_example.json"
CARD = "MODEL_CARD.md"
FILES = frozenset({BOOSTER, ONNX, CONTRACT, ENCODER, METADATA, PROFILE, EXAMPLE, CARD})
# A candidate that is only judged is never served: its refit is. It needs no second engine and no card.
CANDIDATE_FILES = FILES - {ONNX, CARD}

_ONE_THREAD_BELOW = 100_000


class ModelPackage:
    """A model with all that scoring needs.

    Attributes:
        uri: where it lies.
        version: its identity.
        metadata: the facts of `metadata.json`.
    """

    def __init__(self, uri: str, files: Mapping[str, bytes]) -> None:
        self.uri = uri
        self._files = files
        self.metadata: dict[str, Any] = json.loads(files[METADATA])
        self.version: str = self.metadata["version"]

    @cached_property
    def contract(self) -> Contract:
        """The contract as it was when the model was made."""
        return parse_contract(self._files[CONTRACT].decode(), f"{self.uri}/{CONTRACT}")

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder.from_json(json.loads(self._files[ENCODER]))

    @cached_property
    def profile(self) -> dict[str, Any]:
        """The training profile (`caudal.profile`)."""
        profile: dict[str, Any] = json.loads(self._files[PROFILE])
        return profile

    @cached_property
    def input_example(self) -> dict[str, Any]:
        """A made-up row, as a request would hold it."""
        example: dict[str, Any] = json.loads(self._files[EXAMPLE])
        return example

    @property
    def card(self) -> str:
        """The model card, Markdown."""
        return self._files[CARD].decode()

    @property
    def threshold(self) -> float | None:
        """A score at or above it is decided positive; None for tasks without one."""
        value = self.metadata["threshold"]
        return None if value is None else float(value)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of a multiclass model, in the order of its scores' columns."""
        return tuple(self.metadata.get("classes", ()))

    @cached_property
    def calibrator(self) -> Calibrator | None:
        value = self.metadata["calibration"]
        return None if value is None else Calibrator.from_json(value)

    @property
    def size(self) -> int:
        """The booster's size in bytes."""
        return len(self._files[BOOSTER])

    @property
    def onnx(self) -> bytes:
        """The model for ONNX Runtime."""
        return self._files[ONNX]

    @cached_property
    def onnx_model(self) -> OnnxModel:
        """The model in ONNX Runtime; needs no XGBoost."""
        from caudal.package.onnx import OnnxModel

        return OnnxModel(self.onnx)

    @cached_property
    def booster(self) -> xgb.Booster:
        import xgboost as xgb

        return xgb.Booster({"nthread": 1}, model_file=bytearray(self._files[BOOSTER]))

    def calibrated(self, raw: NDArray[Any]) -> NDArray[Any]:
        """A booster's or an ONNX model's raw scores as the package's scores."""
        return raw if self.calibrator is None else self.calibrator.apply(raw)

    def score(self, table: Columns) -> NDArray[Any]:
        """Scores by XGBoost, float64.

        Binary: the probability of the positive class, shape (rows,). Multiclass: of each class, (rows, classes).
        Regression: the value, (rows,).
        """
        return self.calibrated(self.raw_scores(table))

    def score_row(self, row: Mapping[str, Any]) -> NDArray[Any]:
        """The score of one row of plain values by ONNX Runtime, shape (1,) or (1, classes)."""
        return self.calibrated(self.onnx_model.predict(self.encoder.encode_row(row)))

    def raw_scores(self, table: Columns) -> NDArray[Any]:
        """Scores by XGBoost before calibration."""
        return raw_scores(self.booster, self.encoder, table)

    def prediction(self, scores: NDArray[Any]) -> pa.Array:
        """The decision for each score, as text: the positive value or `not <positive>`, a class, or the value."""
        label = self.contract.label
        if self.contract.task == "binary":
            values = self.contract.columns[label.column].values or ()
            others = [value for value in values if value != label.positive]
            negative = others[0] if len(others) == 1 else f"not {label.positive}"
            threshold = 0.5 if self.threshold is None else self.threshold
            chosen = pa.array((scores >= threshold).astype(np.int8))
            return pa.array([negative, label.positive], pa.string()).take(chosen)
        if self.contract.task == "multiclass":
            return pa.array(self.classes, pa.string()).take(pa.array(scores.argmax(axis=1)))
        return pa.array([repr(float(score)) for score in scores], pa.string())


def raw_scores(booster: xgb.Booster, encoder: Encoder, table: Columns) -> NDArray[Any]:
    """A booster's scores on rows, float64; a large table is encoded in parts of moderate size."""
    booster.set_param({"nthread": 1 if table.num_rows < _ONE_THREAD_BELOW else 0})
    encode = encoder.encode_sparse if encoder.is_sparse else encoder.encode
    step = (1 << 16) if encoder.is_sparse else encoder.rows_at_once()
    parts = [
        booster.inplace_predict(encode(table.slice(start, step)), validate_features=False)
        for start in range(0, max(table.num_rows, 1), step)
    ]
    return np.asarray(np.concatenate(parts), dtype=np.float64)


def open_package(storage: Storage, uri: str) -> ModelPackage:
    """Opens a model package that can be served.

    Raises:
        NotFound: there is none; one that is still being written counts as none.
        PackageError: it is incomplete, altered, or of another version than its place says.
    """
    return _open(storage, uri, FILES)


def open_candidate(storage: Storage, uri: str) -> ModelPackage:
    """Opens a candidate that was trained to be judged; it has no ONNX model and no card.

    Raises:
        NotFound: there is none.
        PackageError: it is incomplete or altered.
    """
    return _open(storage, uri, CANDIDATE_FILES)


def _open(storage: Storage, uri: str, wanted: frozenset[str]) -> ModelPackage:
    try:
        folder = open_folder(storage, uri)
    except NotFound as error:
        raise NotFound(
            "there is no model package", where=uri, mend="list the models with `caudal models list`"
        ) from error
    absent = sorted(wanted - set(folder.entries))
    if absent:
        raise PackageError(f"the package has no {', '.join(absent)}", where=uri, mend="train the model again")
    package = ModelPackage(uri, {name: folder.read(name) for name in folder.entries})
    if package.version != uri.rstrip("/").rsplit("/", 1)[-1]:
        raise PackageError(
            f"the package says that it is version {package.version}",
            where=uri,
            mend="packages can't be moved or renamed; train the model again",
        )
    return package
