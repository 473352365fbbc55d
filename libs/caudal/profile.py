"""The training profile: what each feature, and the model's scores, looked like in training.

Bins are fixed when the model is made, so that drift is counted the same way ever after: bin i of a number holds
the values v with exactly i edges <= v, which SQL says as a sum of comparisons. Quantiles are the edges; a value so
frequent that it fills a bin has that bin for itself, so that what leaves it shows. A category has a count for each
listed value, and a last one for all others. The profile goes into the model package.

Rows of a class are counted apart as well, in bins of their own: what is rare among all rows may be usual among the
positive ones, and ten bins that suit the one say little of the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from caudal.labels import class_number, watched_classes

if TYPE_CHECKING:
    from caudal.contract import Contract
    from caudal.contract.features import Feature

BINS = 10
MOST_VALUES = 50
SCORE_EDGES = tuple(i / 20 for i in range(1, 20))


class HasColumns(Protocol):
    """A table, or whatever reads one column at a time, so that not all need be in memory."""

    @property
    def num_rows(self) -> int: ...

    def column(self, name: str, /) -> Any: ...


def profile(
    contract: Contract,
    table: HasColumns,
    scores: NDArray[Any] | None = None,
    labels: NDArray[Any] | None = None,
    bins: int = BINS,
) -> dict[str, Any]:
    """Counts by fixed bins of every feature (text is left out: its values are people's words).

    Beside `features`, of all rows, `classes` holds the same of the rows of each watched class
    (`caudal.labels.watched_classes`), by its name.

    Args:
        table: the training rows, with the contract's feature columns.
        scores: what the model gives on rows that it was not trained on; probabilities use edges .05, .10, ... .95,
            values of a regression their quantiles.
        labels: of the rows, as `caudal.labels` encodes them; without them nothing is counted by class.
        bins: number of bins of a numeric feature; fewer where values repeat, and more beside frequent ones.
    """
    watched = () if labels is None else watched_classes(contract)
    chosen = {name: np.asarray(labels == class_number(contract, name)) for name in watched}
    features: dict[str, Any] = {}
    classes: dict[str, Any] = {name: {"rows": int(of.sum()), "features": {}} for name, of in chosen.items()}
    for feature in contract.model_features():
        if feature.kind == "text":
            continue
        column = table.column(feature.name)
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        features[feature.name] = _counted(feature, column, bins)
        for name, of in chosen.items():
            classes[name]["features"][feature.name] = _counted(feature, column.filter(pa.array(of)), bins)
    made: dict[str, Any] = {"rows": table.num_rows, "features": features}
    if classes:
        made["classes"] = classes
    if scores is not None:
        # As predictions are stored: of several classes, the probability of the most probable one.
        scores = scores.max(axis=1) if scores.ndim == 2 else scores
        edges = quantile_edges(scores, 2 * bins) if contract.task == "regression" else list(SCORE_EDGES)
        made["scores"] = {"edges": edges, "counts": count_by_edges(scores, edges)}
    return made


def _counted(feature: Feature, column: pa.Array, bins: int) -> dict[str, Any]:
    if feature.kind != "numeric":
        return categorical_profile(column)
    values = _numbers(column)
    return numeric_profile(values, len(column) - len(values), bins)


def numeric_profile(values: NDArray[Any], missing: int, bins: int = BINS) -> dict[str, Any]:
    """Edges (`quantile_edges`), counts (one more than edges), missing values, smallest and largest."""
    edges = quantile_edges(values, bins)
    return {
        "kind": "numeric",
        "edges": edges,
        "counts": count_by_edges(values, edges),
        "missing": int(missing),
        "min": float(values.min()) if len(values) else None,
        "max": float(values.max()) if len(values) else None,
    }


def categorical_profile(column: pa.Array, most: int = MOST_VALUES) -> dict[str, Any]:
    """Counts of the most frequent values, in the order of the values, and of all others as the last one."""
    text = pc.drop_null(pc.cast(column, pa.string()))
    counted = {item["values"]: item["counts"] for item in pc.value_counts(text).to_pylist()}
    kept = sorted(sorted(counted, key=lambda value: (-counted[value], value))[:most])
    other = sum(counted.values()) - sum(counted[value] for value in kept)
    return {
        "kind": "categorical",
        "values": kept,
        "counts": [*(counted[value] for value in kept), other],
        "missing": column.null_count,
    }


def quantile_edges(values: NDArray[Any], bins: int) -> list[float]:
    """The distinct quantiles that cut the values into so many bins, and the next value above each atom.

    An atom is a repeated value that fills a bin by itself: the zeros of a rate, say. It begins its own bin, since
    it is a quantile; the next whole number, or where not all values are whole the next float, ends it. So a row
    that moves from the atom to another value (of whole numbers, another whole one) changes the counts, however few
    lay there in training. A bin that is empty on both sides, such as that beyond an atom at either end, adds about
    ln(N / n) / 2n to the index of n rows beside N, and nothing to the tests.
    """
    if not len(values):
        return []
    cuts = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf"))
    rows = np.array([np.count_nonzero(values == cut) for cut in cuts])
    atoms = cuts[(rows > 1) & (rows * bins >= len(values))]
    above = np.nextafter(atoms, np.inf)
    if len(atoms) and np.array_equal(values, np.floor(values)):
        above = np.maximum(above, atoms + 1)
    return [float(edge) for edge in np.unique(np.append(cuts, above[np.isfinite(above)]))]


def count_by_edges(values: NDArray[Any], edges: list[float]) -> list[int]:
    """How many values have exactly 0, 1, ... len(edges) edges at or below them."""
    bin_of = np.searchsorted(np.asarray(edges, dtype=np.float64), values, side="right")
    return [int(count) for count in np.bincount(bin_of, minlength=len(edges) + 1)]


def missing_share(feature: Mapping[str, Any]) -> float:
    """The share of rows in which a profiled feature was missing."""
    rows = sum(feature["counts"]) + feature["missing"]
    return float(feature["missing"] / rows) if rows else 0.0


def _numbers(column: pa.Array) -> NDArray[Any]:
    present = pc.drop_null(column)
    if pa.types.is_decimal(column.type):
        # Arrow's own cast of a decimal misses the nearest float by one in two of five: by way of text it is the
        # float that SQL compares with an edge.
        present = pc.cast(present, pa.string())
    present = pc.cast(present, pa.float64(), safe=False)
    values = np.asarray(present.to_numpy(zero_copy_only=False), dtype=np.float64)
    return values[~np.isnan(values)]
