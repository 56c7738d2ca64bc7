"""`kubectl anomaly`: what an operator's user asks and does from the shell."""
