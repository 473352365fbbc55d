"""From the contract's features to the matrix that a model sees.

Numbers become float32. A category becomes its position in the list of values that training saw, stored in the
package; one that training did not see is missing, as is a null: XGBoost then takes the branch it learned for
missing values. A boolean is 0 or 1. Text becomes counts of hashed word n-grams, one column a bucket; a bucket
without a word is missing, so that sparse and dense matrices mean the same. A ratio is one number by another, and
missing where that gives none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from caudal.contract.features import Feature
from caudal.errors import TableMismatch

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from caudal.contract import Contract

Matrix = NDArray[np.float32]
Columns: TypeAlias = "pa.Table | pa.RecordBatch"

_WORD_BREAK = r"[^\p{L}\p{N}]+"
_LARGEST_CHUNK = 64 << 20


@dataclass(frozen=True)
class EncodedFeature:
    """One feature and what encoding it needs.

    Attributes:
        first: its first column in the matrix.
        width: how many columns it has.
        categories: for a category, the values that training saw, as text; the position is the code.
        ngrams: for text, the longest n-gram of words.
        of: for a ratio, the first columns of numerator and denominator.
    """

    name: str
    kind: str
    first: int
    width: int = 1
    categories: tuple[str, ...] = ()
    ngrams: int = 0
    of: tuple[int, ...] = ()


class Encoder:
    """Encodes tables, batches and single rows; made by `fit`, or read back from a package."""

    def __init__(self, features: Sequence[EncodedFeature]) -> None:
        self.features = tuple(features)
        self.width = sum(feature.width for feature in self.features)
        self._codes = {
            feature.name: {value: float(i) for i, value in enumerate(feature.categories)}
            for feature in self.features
            if feature.kind == "categorical"
        }

    @staticmethod
    def fit(contract: Contract, batches: Iterable[Columns]) -> Encoder:
        """Learns the categories that occur; nothing else depends on the rows, and their order does not matter."""
        seen: dict[str, set[str]] = {f.name: set() for f in contract.model_features() if f.kind == "categorical"}
        for batch in batches:
            for name, values in seen.items():
                values.update(pc.unique(_text(_column(batch, name))).drop_null().to_pylist())
        return Encoder.of(contract, {name: sorted(values) for name, values in seen.items()})

    @staticmethod
    def of(contract: Contract, categories: Mapping[str, Sequence[str]]) -> Encoder:
        """The encoder of a contract with given categories."""
        features = []
        first = 0
        for feature in contract.model_features():
            features.append(_encoded(contract, feature, first, categories))
            first += features[-1].width
        place = {feature.name: feature.first for feature in features}
        for name, (above, below) in contract.features.ratios.items():
            features.append(EncodedFeature(name, "ratio", first, of=(place[above], place[below])))
            first += 1
        return Encoder(features)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Encoder:
        """Reads what `to_json` wrote."""
        return Encoder(
            [
                EncodedFeature(**{**f, "categories": tuple(f["categories"]), "of": tuple(f["of"])})
                for f in value["features"]
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """All that encoding needs, for the package."""
        return {
            "features": [{**vars(feature), "categories": list(feature.categories)} for feature in self.features]
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that a table must have, in order; ratios are computed and are none."""
        return tuple(feature.name for feature in self.features if feature.kind != "ratio")

    @property
    def is_sparse(self) -> bool:
        """Whether most of a matrix is missing, because text has a column for every bucket."""
        return any(feature.kind == "text" for feature in self.features)

    def column_names(self) -> list[str]:
        """A name for every column of the matrix."""
        names = []
        for feature in self.features:
            if feature.width == 1:
                names.append(feature.name)
            else:
                names += [f"{feature.name}#{bucket}" for bucket in range(feature.width)]
        return names

    def column_types(self) -> list[str]:
        """XGBoost's type of every column: `c` for categories, `q` for quantities."""
        return ["c" if f.kind == "categorical" else "q" for f in self.features for _ in range(f.width)]

    def rows_at_once(self) -> int:
        """How many rows a dense matrix of moderate size has."""
        return max(1, _LARGEST_CHUNK // (4 * self.width))

    def encode(self, table: Columns) -> Matrix:
        """A dense matrix of shape (rows, width), column-major, NaN where a value is missing.

        Raises:
            TableMismatch: a feature is not among the columns.
        """
        matrix = np.empty((table.num_rows, self.width), dtype=np.float32, order="F")
        for feature in self.features:
            if feature.kind == "ratio":
                matrix[:, feature.first] = _ratio(matrix, feature)
                continue
            column = _column(table, feature.name)
            if feature.kind == "text":
                block = matrix[:, feature.first : feature.first + feature.width]
                block[:] = np.nan
                rows, buckets, counts = hashed_counts(column, feature.width, feature.ngrams)
                block[rows, buckets] = counts
            else:
                matrix[:, feature.first] = self._values(feature, column)
        return matrix

    def encode_sparse(self, table: Columns) -> csr_matrix:
        """The same as a sparse matrix, in which what is not stored is missing."""
        from scipy.sparse import csr_matrix

        rows, columns, values = [], [], []
        needed = {first for feature in self.features for first in feature.of}
        numbers: dict[int, Matrix] = {}
        for feature in self.features:
            if feature.kind == "ratio":
                pair = np.column_stack([numbers[first] for first in feature.of])
                dense = _ratio(pair, replace(feature, of=(0, 1)))
                at = np.flatnonzero(~np.isnan(dense))
                rows.append(at)
                columns.append(np.full(len(at), feature.first))
                values.append(dense[at])
                continue
            column = _column(table, feature.name)
            if feature.kind == "text":
                at, bucket, count = hashed_counts(column, feature.width, feature.ngrams)
                rows.append(at)
                columns.append(bucket + feature.first)
                values.append(count.astype(np.float32))
            else:
                dense = self._values(feature, column)
                if feature.first in needed:
                    numbers[feature.first] = dense
                at = np.flatnonzero(~np.isnan(dense))
                rows.append(at)
                columns.append(np.full(len(at), feature.first))
                values.append(dense[at])
        place = (np.concatenate(rows), np.concatenate(columns))
        return csr_matrix((np.concatenate(values), place), shape=(table.num_rows, self.width), dtype=np.float32)

    def encode_row(self, row: Mapping[str, Any]) -> Matrix:
        """One row of plain Python values as a matrix of shape (1, width), without Arrow's cost a call.

        A feature that the row does not have is missing. The values are those of a checked request: numbers for
        numeric features, booleans for boolean ones, and so on.
        """
        matrix = np.full((1, self.width), np.nan, dtype=np.float32)
        line = matrix[0]
        for feature in self.features:
            if feature.kind == "ratio":
                line[feature.first] = _ratio(matrix, feature)[0]
                continue
            value = row.get(feature.name)
            if value is None:
                continue
            if feature.kind == "categorical":
                line[feature.first] = self._codes[feature.name].get(as_text(value), np.nan)
            elif feature.kind == "text":
                _, buckets, counts = hashed_counts(pa.array([value], pa.string()), feature.width, feature.ngrams)
                line[feature.first + buckets] = counts
            else:
                line[feature.first] = value
        return matrix

    def _values(self, feature: EncodedFeature, column: pa.Array) -> Matrix:
        if feature.kind == "categorical":
            codes = pc.index_in(_text(column), pa.array(feature.categories, pa.string()))
            return _float32(pc.cast(codes, pa.float32()))
        if feature.kind == "boolean":
            return _float32(pc.cast(pc.cast(column, pa.uint8()), pa.float32()))
        # By way of float64, as a single row's values go: both are then rounded once, and alike.
        return _float32(pc.cast(column, pa.float64(), safe=False))


def hashed_counts(column: pa.Array, width: int, ngrams: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Counts of word n-grams (1 to `ngrams` words, lower case) by bucket.

    The bucket of an n-gram is its BLAKE2b hash modulo `width`: the same in every process, unlike Python's hash.

    Returns:
        Row numbers, buckets and counts, ordered by row and bucket.
    """
    lists = pc.split_pattern_regex(pc.utf8_lower(_text(column)), _WORD_BREAK)
    words = pc.list_flatten(lists)
    parents = pc.list_parent_indices(lists)
    kept = pc.not_equal(words, "")
    words, parent = words.filter(kept), np.asarray(parents.filter(kept), dtype=np.int64)
    rows, buckets = [], []
    grams = words
    for length in range(1, ngrams + 1):
        if length > 1:
            grams = pc.binary_join_element_wise(grams[:-1], words[length - 1 :], " ")
        if not len(grams):
            break
        whole = parent[: len(grams)] == parent[length - 1 :]
        encoded = grams.dictionary_encode()
        bucket_of = np.array([_bucket(gram, width) for gram in encoded.dictionary.to_pylist()], dtype=np.int64)
        rows.append(parent[: len(grams)][whole])
        buckets.append(bucket_of[np.asarray(encoded.indices, dtype=np.int64)][whole])
    if not rows:
        empty = np.empty(0, dtype=np.int64)
        return empty, empty, empty
    places, counts = np.unique(np.concatenate(rows) * width + np.concatenate(buckets), return_counts=True)
    return places // width, places % width, counts


def _bucket(gram: str, width: int) -> int:
    return int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "big") % width


def _encoded(
    contract: Contract, feature: Feature, first: int, categories: Mapping[str, Sequence[str]]
) -> EncodedFeature:
    if feature.kind == "text":
        text = contract.features.text[feature.name]
        return EncodedFeature(feature.name, "text", first, text.hashed, ngrams=text.ngrams)
    if feature.kind == "categorical":
        return EncodedFeature(feature.name, "categorical", first, categories=tuple(categories[feature.name]))
    return EncodedFeature(feature.name, feature.kind, first)


def _ratio(matrix: Matrix, feature: EncodedFeature) -> Matrix:
    above, below = (matrix[:, first] for first in feature.of)
    with np.errstate(divide="ignore", invalid="ignore"):
        made = above / below
    return np.where(below == 0, np.float32(np.nan), made)


def _column(table: Columns, name: str) -> pa.Array:
    if name not in table.schema.names:
        raise TableMismatch(
            f"the rows have no column '{name}'", where=name, mend="select every feature of the contract"
        )
    column = table.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _text(column: pa.Array) -> pa.Array:
    return column if pa.types.is_string(column.type) else pc.cast(column, pa.string())


def as_text(value: object) -> str:
    """A category's value as the encoder knows it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _float32(column: pa.Array) -> Matrix:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float32)
