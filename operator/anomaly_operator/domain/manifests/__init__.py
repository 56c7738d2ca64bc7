"""Every object that the operator makes, as plain dicts: pure builders, one noun a file."""
