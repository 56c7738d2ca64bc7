"""A changed configuration: what depends on it is built anew, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from anomaly_detector.config import Config, DriftConfig
from anomaly_detector.dataplane import FLAT, DataPlane, Model
from anomaly_detector.loading import make_drift_detector, make_explainer
from anomaly_detector.observer import Observer
from anomaly_detector.protocols import Contract
from anomaly_detector.rebuild import Rebuilder
from anomaly_detector.scoring import ForestScorer
from anomaly_detector.scoring.estimators import flatten_forest

FEATURES = ("a", "b")


@pytest.fixture
def plane():
    forest = IsolationForest(n_estimators=5, random_state=0).fit(np.random.default_rng(0).normal(size=(50, 2)))
    scorer = ForestScorer(
        features=FEATURES, threshold=0.5, kind=FLAT, accepts_missing=True, accepts_infinite=True, one_to_one=True,
        forest=flatten_forest(forest), transform=lambda rows: rows,
    )  # fmt: skip
    model = Model(scorer=scorer, bundle=None, contract=Contract(model="m", version="1", features=FEATURES))
    made = DataPlane(model, boot_id="b" * 16, timeout=10)
    made.explainer = make_explainer(model, Config())
    return made


async def test_only_what_a_change_concerns_is_built_anew(plane):
    observer = Observer(FEATURES, make_drift_detector(plane.model, Config()))
    rebuilder = Rebuilder(plane, observer, Config())
    explainer, detector = plane.explainer, observer.detector

    rebuilder.want(limits := replace(Config(), error_rate_max=0.5))
    await rebuilder.done()
    assert (plane.explainer, observer.detector) == (explainer, detector)

    rebuilder.want(fewer := replace(limits, top_k=1))
    await rebuilder.done()
    rows = np.zeros((1, 2))
    (said,) = plane.explainer.explain(rows, plane.model.scorer.score(rows))
    assert len(said["contributions"]) == 1
    assert observer.detector is detector

    rebuilder.want(replace(fewer, explanations=False))
    rebuilder.want(replace(fewer, explanations=False, drift=replace(DriftConfig(), window=100)))
    await rebuilder.done()
    assert plane.explainer is None
    assert observer.detector.config.window == 100
