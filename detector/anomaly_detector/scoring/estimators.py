"""What is read from a fitted scikit-learn estimator. Duck-typed: this module itself imports no scikit-learn."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomaly_detector.scoring.forest import FlatForest, floor32
from anomaly_detector.scoring.loading import RefusedError

Floats = NDArray[np.float64]


def steps_of(model: Any) -> tuple[Any, ...]:
    """Return the steps of a Pipeline in order, nested ones unfolded; a bare estimator is one step."""
    if not hasattr(model, "steps"):
        return (model,)
    real = [step for _, step in model.steps if step is not None and not isinstance(step, str)]
    return tuple(inner for step in real for inner in steps_of(step))


def threshold_of(model: Any) -> float:
    """Return the score above which the model calls a row anomalous."""
    if hasattr(model, "score_samples"):
        return -float(np.asarray(steps_of(model)[-1].offset_).item())
    return 0.0


def score_function(model: Any, features: tuple[str, ...]) -> Callable[[Floats], Floats]:
    """Return the model's own anomaly score: `-score_samples`, or `-decision_function` where there is no other.

    Raises RefusedError if it has neither.
    """
    last = steps_of(model)[-1]
    for method in ("score_samples", "decision_function"):
        if hasattr(model, method) and (method != "score_samples" or hasattr(last, "offset_")):
            bound = with_names(model, getattr(model, method), features)
            return lambda rows: -np.asarray(bound(rows), dtype=np.float64)
    raise RefusedError(
        f"{type(last).__name__} is no outlier detector: it has neither score_samples with offset_ nor decision_function"
    )


def with_names(model: Any, method: Callable[[Any], Any], features: tuple[str, ...]) -> Callable[[Any], Any]:
    """Return `method` for plain arrays, giving it a DataFrame if the model selects its columns by name."""
    # Arrays are what the model gets although it was fitted on named columns; their order was checked before.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    if not any(_selects_by_name(step) for step in steps_of(model)):
        return method
    import pandas as pd  # noqa: PLC0415 - 60 MiB that other models do not need

    return lambda rows: method(pd.DataFrame(rows, columns=list(features), copy=False))


def _selects_by_name(step: Any) -> bool:
    chosen = [columns for _, _, columns in getattr(step, "transformers", ())]
    return any(isinstance(c, str) or (isinstance(c, list) and any(isinstance(n, str) for n in c)) for c in chosen)


def is_one_to_one(transformer: Any) -> bool:
    """Say whether each output column comes from the input column at its place alone."""
    return any(base.__name__ == "OneToOneFeatureMixin" for base in type(transformer).__mro__)


def flatten_forest(forest: Any) -> FlatForest:
    """Lay a fitted IsolationForest out as arrays.

    Reads private attributes, which move between versions of scikit-learn: the caller compares the scores.
    Raises AttributeError if one is not there.
    """
    from sklearn.ensemble._iforest import _average_path_length  # noqa: PLC0415 - only while a model is flattened

    parts: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("feature", "threshold", "left", "missing_left", "value", "cover")
    }
    roots, depth, first = [], 0, 0
    for index, (estimator, columns) in enumerate(zip(forest.estimators_, forest.estimators_features_, strict=True)):
        tree = estimator.tree_
        order, left = _children_side_by_side(tree.children_left, tree.children_right)
        inner = tree.children_left[order] != -1
        split = tree.feature[order]
        parts["feature"].append(np.where(inner, np.asarray(columns)[np.where(inner, split, 0)], 0))
        parts["threshold"].append(np.where(inner, floor32(tree.threshold[order]), np.float32(np.inf)))
        parts["left"].append(left + first)
        parts["missing_left"].append(np.where(inner, tree.missing_go_to_left[order] != 0, np.True_))
        lengths = forest._decision_path_lengths[index] + forest._average_path_length_per_tree[index] - 1.0  # noqa: SLF001 - nothing public holds them
        parts["value"].append(np.where(inner, 0.0, lengths[order]))
        parts["cover"].append(tree.n_node_samples[order].astype(np.float64))
        roots.append(first)
        first += len(order)
        depth = max(depth, int(tree.max_depth))
    kinds = {"feature": np.int32, "threshold": np.float32, "left": np.int32, "missing_left": np.bool_}
    arrays: dict[str, NDArray[Any]] = {
        name: np.concatenate(part).astype(kinds.get(name, np.float64)) for name, part in parts.items()
    }
    trees = len(roots)
    return FlatForest(
        **arrays,
        roots=np.asarray(roots, dtype=np.int32),
        depth=depth,
        denominator=float(trees * _average_path_length([forest._max_samples])[0]),  # noqa: SLF001
        width=int(forest.n_features_in_),
    )


def _children_side_by_side(left: NDArray[Any], right: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the nodes in breadth-first order, siblings adjacent, and each one's left child (a leaf: itself)."""
    order, children = [0], []
    for place, node in enumerate(order):  # grows while it is walked
        if left[node] == -1:
            children.append(place)
        else:
            children.append(len(order))
            order += [int(left[node]), int(right[node])]
    return np.asarray(order), np.asarray(children)
