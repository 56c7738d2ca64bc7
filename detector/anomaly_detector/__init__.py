"""The serving pod and the training command of the AnomalyModel operator."""
