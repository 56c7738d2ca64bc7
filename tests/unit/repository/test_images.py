"""What each image installs is enough for what it runs, and no more than it needs."""

import importlib.metadata
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
DATA_SCIENCE = {"mlflow", "numpy", "pandas", "scikit-learn", "scipy", "shap", "matplotlib"}

IMPORT = """
import importlib, sys
sys.path += sys.argv[1].split(":")
for module in sys.argv[2:]:
    importlib.import_module(module)
"""


def locked(name):
    lines = (ROOT / "requirements" / f"{name}.lock").read_text().splitlines()
    return {m[1].lower().replace("_", "-") for line in lines if (m := re.match(r"([A-Za-z0-9._-]+)==", line))}


@pytest.mark.parametrize(
    ("lock", "modules"),
    [
        ("operator", ["anomaly_operator.__main__", "anomaly_operator.cli.__main__", "anomaly_operator.crdgen"]),
        ("detector", ["anomaly_detector.__main__", "anomaly_detector.train.__main__"]),
    ],
)
def test_the_programs_of_an_image_import_nothing_that_its_lock_file_lacks(lock, modules, tmp_path):
    """A folder of links to the locked packages stands for the image's site-packages."""
    for package in locked(lock):
        try:
            files = importlib.metadata.files(package) or ()
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            link = tmp_path / top
            if not link.exists():
                link.symlink_to(SITE_PACKAGES / top)
    path = ":".join([str(tmp_path), *(str(ROOT / root) for root in ("operator", "detector"))])

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT, path, *modules], capture_output=True, text=True, check=False, cwd="/"
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_the_operators_image_holds_no_data_science():
    assert locked("operator") & DATA_SCIENCE == set()


def test_the_images_hold_no_tools_for_development():
    assert (locked("operator") | locked("detector")) & {"pytest", "ruff", "mypy", "hypothesis"} == set()


@pytest.mark.parametrize("lock", ["operator", "detector", "build"])
def test_every_image_is_locked_to_versions_that_are_tested(lock):
    def pins(name):
        text = (ROOT / "requirements" / f"{name}.lock").read_text()
        return set(re.findall(r"^([A-Za-z0-9._-]+==[^\s;\\]+)", text, flags=re.MULTILINE))

    assert pins(lock) - pins("dev") == set()


def test_the_dockerfile_has_both_targets_and_runs_as_an_ordinary_user():
    text = (ROOT / "Dockerfile").read_text()

    assert {"operator", "detector"} <= set(re.findall(r"^FROM \S+ AS (\S+)$", text, flags=re.MULTILINE))
    assert re.search(r"^FROM \S+ AS runtime\n(?:(?!FROM).*\n)*USER 65532:65532$", text, flags=re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+) AS (?:operator|detector)$", text, flags=re.MULTILINE)) == {"runtime"}


def test_the_chart_runs_the_image_as_the_user_that_the_image_names():
    chart = (ROOT / "charts/anomaly-operator/templates/deployment.yaml").read_text()

    assert "runAsUser: 65532" in chart


def test_continuous_integration_runs_what_a_developer_runs():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    made = [step["run"].split()[1] for job in jobs.values() for step in job["steps"] if "make " in step.get("run", "")]

    assert jobs["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert {"install", "test", "demo"} <= set(made)
    assert set(made) <= targets
