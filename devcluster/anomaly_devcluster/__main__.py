"""The command `devcluster`."""

import sys

from anomaly_devcluster.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
