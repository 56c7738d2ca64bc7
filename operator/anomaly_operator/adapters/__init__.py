"""The outside world: one system a file, the only input and output."""
