"""Explain anomalies.

    explainer = Explainer(scorer, units=bundle.units, reference=bundle.reference, score_quantiles=bundle.scores)
    explainer.explain(rows, scores)        # list of JSON objects as in docs/pod-contract.md, top k contributions
    explainer.shap_values(rows, scores)    # (n, features), sum of a row = score - explainer.base
    explainer.fast                         # may run on the event loop; if not, use a thread or process

docs/explanations.md has the definitions.
"""

from anomaly_detector.explain.explainer import Explainer

__all__ = ["Explainer"]
