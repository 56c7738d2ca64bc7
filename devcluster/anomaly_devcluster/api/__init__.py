"""The emulated API server."""
