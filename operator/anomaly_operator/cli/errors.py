"""What ends a command early, in words for the user."""


class CliError(Exception):
    """One sentence for standard error, and the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
