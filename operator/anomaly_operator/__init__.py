"""The AnomalyModel operator: keep the right version of an anomaly-detection model in production."""
