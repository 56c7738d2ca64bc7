"""The command `devcluster`."""

import sys


def main() -> int:
    """Run the command that the arguments name; return its exit code, 2 at once on anything but Linux."""
    if not sys.platform.startswith("linux"):
        sys.stderr.write("devcluster needs Linux: its pods are processes with loopback addresses of their own.\n")
        return 2
    from anomaly_devcluster.cli.main import main as run  # noqa: PLC0415 - what it imports needs Linux

    return run()


if __name__ == "__main__":
    sys.exit(main())
