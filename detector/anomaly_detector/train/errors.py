"""What can go wrong in training, by who can mend it, with the exit code that says so."""


class TrainingError(Exception):
    """Base of what a user is told in words, without a traceback."""

    exit_code = 1


class DataError(TrainingError):
    """Say what is wrong with data or options: where, what was found, what to do."""

    exit_code = 2


class RegistryError(TrainingError):
    """Say what the registry or another server answered, or that it did not."""

    exit_code = 69


KEPT_ALIAS = 3
"""Exit code when a version was registered but the alias stayed where it was, because the version is worse."""
