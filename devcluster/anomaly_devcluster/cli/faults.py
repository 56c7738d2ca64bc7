"""Make things fail, from the command line."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `devcluster faults` takes."""
    parser.add_argument("what", nargs="?")


def run(options: argparse.Namespace) -> int:
    """Send it to the switchboard."""
    del options
    return 1
