"""Cost of scoring, explaining and checking for drift, beside scikit-learn, shap and SciPy in the same run.

    .venv/bin/python benchmarks/scoring.py

Every measurement takes turns between ours and its peer, so that both meet the same machine; medians of the repeats.
"""

import json
import time
import warnings
from collections.abc import Callable
from statistics import quantiles
from typing import Any

import numpy as np
import shap
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from anomaly_detector.config import DriftConfig
from anomaly_detector.drift import DriftDetector
from anomaly_detector.drift.statistics import Reference, compare
from anomaly_detector.explain import Explainer
from anomaly_detector.native import KERNEL
from anomaly_detector.scoring import ForestScorer, scaling
from anomaly_detector.scoring.estimators import flatten_forest, threshold_of

REPEATS = 200


def scorer_of(model: Any, width: int) -> ForestScorer:
    steps = scaling.steps_of(model[0])
    return ForestScorer(
        features=tuple(f"x{i}" for i in range(width)),
        threshold=threshold_of(model),
        kind="flat forest",
        accepts_missing=True,
        accepts_infinite=False,
        forest=flatten_forest(model[-1]),
        transform=lambda rows: scaling.apply(steps or (), rows),
        one_to_one=True,
    )


def timed(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Return microseconds of each call, taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - start) * 1e6)
    return taken


def measured(name: str, calls: dict[str, Callable[[], Any]], repeats: int = REPEATS) -> dict[str, Any]:
    """Measure the first call against the others."""
    taken = timed(calls, repeats)
    cuts = {key: quantiles(values, n=100) for key, values in taken.items()}
    (own, mine), *others = cuts.items()
    del own
    return {
        "name": name,
        "unit": "microseconds",
        "value": mine[49],
        "p50": mine[49],
        "p95": mine[94],
        "p99": mine[98],
        "n": repeats,
        "peers": {key: cut[49] for key, cut in others},
        "ratio": {key: cut[49] / mine[49] for key, cut in others},
    }


def scipy_statistics(a: Any, b: Any, edges: Any) -> tuple[Any, ...]:
    p, q = (np.histogram(x, np.concatenate(([-np.inf], edges, [np.inf])))[0] for x in (a, b))
    return (
        stats.ks_2samp(a, b, method="asymp"),
        stats.wasserstein_distance(a, b),
        stats.anderson_ksamp([a, b]),
        stats.ttest_ind(a, b, equal_var=False),
        jensenshannon(p, q),
    )


def scored(name: str, model: Any, scorer: ForestScorer, rows: Any) -> dict[str, Any]:
    calls = {
        "ours": lambda: scorer.score(rows),
        "scikit-learn": lambda: model.score_samples(rows),
        "ours without kernel": lambda: scorer.forest.path_lengths_by_numpy(scorer.transform(rows)),
    }
    return measured(name, calls)


def measurements() -> list[dict[str, Any]]:
    """Return all measurements in the form of bench-report.json."""
    warnings.simplefilter("ignore")
    random = np.random.default_rng(0)
    found = []
    for width in (3, 5, 8):
        data = random.normal(size=(15_000, width))
        model = make_pipeline(StandardScaler(), IsolationForest(contamination=0.15, random_state=0)).fit(data)
        scorer = scorer_of(model, width)
        explainer = Explainer(scorer, reference=data[::8], score_quantiles=np.sort(scorer.score(data[::8])))
        library = shap.TreeExplainer(model[-1])
        row = data[:1] * 2
        score = scorer.score(row)
        if width == 3:
            found += [scored(f"score {count} rows, 3 features", model, scorer, data[:count]) for count in (1, 256)]
        calls = {
            "ours": lambda e=explainer, r=row, s=score: e.explain(r, s),
            "shap": lambda m=model, lib=library, r=row: lib.shap_values(m[0].transform(r), check_additivity=False),
        }
        found.append(measured(f"explain one anomaly in words, {width} features", calls))
    a, b = random.normal(size=2000), random.normal(size=500)
    reference = Reference.of(a)
    calls = {
        "ours": lambda: compare(reference, b),
        "SciPy": lambda: scipy_statistics(a, b, reference.edges),
    }
    found.append(measured("drift check of one feature, 500 against 2,000 rows", calls))
    return [*found, whole_check(random)]


def whole_check(random: np.random.Generator, width: int = 9) -> dict[str, Any]:
    """Return microseconds a feature of a whole check, verdict and report included; the score is one more feature."""
    reference, rows = random.normal(size=(2000, width)), random.normal(size=(500, width))
    names = [f"x{i}" for i in range(width)]
    detector = DriftDetector(names, DriftConfig(), reference=reference, reference_scores=reference.sum(axis=1))
    scores, half = rows.sum(axis=1), len(rows) // 2
    detector.add(rows, scores, 0.0)
    taken = []
    for _ in range(REPEATS):
        detector.add(rows[:half], scores[:half], 0.0)
        start = time.perf_counter()
        detector.check(0.0)
        taken.append((time.perf_counter() - start) * 1e6 / (width + 1))
    cut = quantiles(taken, n=100)
    name = f"whole drift check a feature, {width} features and the score"
    spread = {"p50": cut[49], "p95": cut[94], "p99": cut[98], "n": REPEATS}
    return {"name": name, "unit": "microseconds", "value": cut[49], **spread, "goal": 100.0}


def main() -> None:
    print(f"kernel: {'compiled' if KERNEL else 'NumPy'}")
    for one in measurements():
        print(json.dumps({k: round(v, 1) if isinstance(v, float) else v for k, v in one.items()}))


if __name__ == "__main__":
    main()
