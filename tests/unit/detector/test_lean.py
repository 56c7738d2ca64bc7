"""The server stays lean: what is heavy runs in processes of its own."""

import subprocess
import sys

HEAVY = ("sklearn", "scipy", "pandas", "shap", "mlflow", "matplotlib", "numba", "influxdb_client", "skops")


def test_serving_imports_none_of_the_heavy_libraries():
    program = f"import sys, anomaly_detector.serve; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == ""
