"""What a person sees at the end: the version, its numbers, and what to do with it."""

from rich.console import Console
from rich.table import Table as Grid

from anomaly_detector.report import PREFIX
from anomaly_detector.train.order import Trained
from anomaly_detector.train.registry import Version

NAMES = {
    "holdout_anomaly_rate": "anomaly rate on the hold-out",
    "holdout_proxy_roc_auc": "ROC AUC, synthetic anomalies",
    "holdout_precision": "precision",
    "holdout_recall": "recall",
    "holdout_roc_auc": "ROC AUC",
    "holdout_pr_auc": "PR AUC",
}


def show(console: Console, trained: Trained, uri: str) -> None:
    """Print a table of what was made and how to deploy it."""
    version = trained.version
    grid = Grid(title=f"{version.name} version {version.version}", show_header=False, title_justify="left")
    grid.add_column()
    grid.add_column(overflow="fold")
    grid.add_row("data", f"{trained.data['source']}, {trained.data['rows']} rows")
    for name, words in NAMES.items():
        if name in trained.metrics:
            grid.add_row(words, f"{trained.metrics[name]:.3f}")
    grid.add_row("drift thresholds", _drift(trained))
    grid.add_row("digest", trained.digest)
    grid.add_row("run", version.run_id)
    grid.add_row("registry", uri)
    if trained.alias:
        moved = "now here" if trained.alias_moved else "not moved (--force moves it)"
        grid.add_row(f"alias {trained.alias}", f"{moved}. {trained.verdict}")
    grid.add_row("seconds", f"{trained.seconds:.1f}")
    console.print(grid, markup=False, highlight=False)
    _deploy(console, version, trained.alias if trained.alias_moved else None)


def show_adopted(console: Console, version: Version) -> None:
    """Print what was adopted and how to deploy it."""
    parent = version.tags.get(PREFIX + "parent-version")
    console.print(f"{version.name} version {version.version}: version {parent} with its bundle", highlight=False)
    _deploy(console, version, None)


def _drift(trained: Trained) -> str:
    calibration = trained.calibration
    if not calibration.get("calibrated"):
        return f"not calibrated: {calibration.get('windows', 0)} windows are too few"
    return f"{calibration['windows']} windows, {calibration['falseAlarmRate']:.2%} false alarms on held-out ones"


def _deploy(console: Console, version: Version, alias: str | None) -> None:
    if alias is not None:
        text = f"Deployed by every AnomalyModel with spec.model: {{name: {version.name}, alias: {alias}}}"
    else:
        text = f"To deploy: kubectl anomaly promote-version {version.name} {version.version} --alias champion"
    console.print(text, markup=False, highlight=False, soft_wrap=True)
