"""Train, evaluate and register anomaly-detection models: the command `anomaly-train`."""
