"""The operator: keeps the right version of an anomaly-detection model in production."""
