"""Render the Helm chart into manifests/install/anomaly-operator.yaml, for those who install without Helm.

python manifests/render.py            write it
python manifests/render.py --check    exit 1 if what is there is stale
"""  # noqa: INP001 - a script, not a package

import re
import sys
from pathlib import Path

from helm_python import Chart

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "manifests" / "install" / "anomaly-operator.yaml"
# The CRD comes from crds/, and a generated key must not lie in a repository.
VALUES = {"crds": {"install": False}, "adminKey": {"existingSecret": "anomaly-operator-admin-key"}}
HEADER = "# Rendered from charts/anomaly-operator by `make crds`; do not edit.\n"


def rendered() -> str:
    """Return the chart's objects as one YAML stream without Helm's own labels."""
    with Chart.load(ROOT / "charts" / "anomaly-operator") as chart:
        files = chart.render(VALUES, name="anomaly-operator", namespace="anomaly-system")
    documents = [text.strip() for name, text in sorted(files.items()) if name.endswith(".yaml") and text.strip()]
    text = "\n---\n".join(documents) + "\n"
    text = re.sub(r"^ *helm\.sh/chart: .*\n", "", text, flags=re.MULTILINE)
    return HEADER + text.replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kustomize")


def main() -> int:
    """Write the manifest or, with --check, say whether it is current."""
    text = rendered()
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text)
    elif not TARGET.exists() or TARGET.read_text() != text:
        sys.stderr.write(f"{TARGET.relative_to(ROOT)} is stale: run `make crds`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
