"""What a person sees while the demo runs: steps, colors, traffic, and what the operator says."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from traffic import Tally
from world import World

COLORS = {"blue": "bold blue", "green": "bold green"}


@dataclass
class Step:
    """One step of the story, for the view and for the report."""

    name: str
    title: str
    version: str | None = None
    outcome: str | None = None
    reason: str = ""
    began: float | None = None
    seconds: float | None = None


@dataclass
class Scene:
    """Everything that is on the screen."""

    steps: list[Step]
    tally: Tally
    began: float = field(default_factory=time.monotonic)
    world: World = field(default_factory=World)
    now_doing: str = ""

    def elapsed(self) -> float:
        """Return the seconds since the demo began."""
        return time.monotonic() - self.began


class View:
    """Draw the scene: live on a terminal, as plain lines elsewhere."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.console = Console()

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep the picture fresh while the body runs."""
        if not self.console.is_terminal:
            yield
            return
        with Live(get_renderable=self._picture, console=self.console, refresh_per_second=4, screen=False):
            yield

    def say(self, text: str) -> None:
        """Show what is being done now."""
        self.scene.now_doing = text
        if not self.console.is_terminal:
            self.console.print(f"{self.scene.elapsed():6.1f} s  {text}", soft_wrap=True, markup=False, highlight=False)

    def _picture(self) -> RenderableType:
        return Group(
            Panel(
                Group(self._steps(), Text(""), Text(self.scene.now_doing, style="italic")),
                title="AnomalyModel operator",
                subtitle=f"{self.scene.elapsed():.0f} s",
            ),
            Panel(Group(self._tracks(), Text(self._message())), title="anomalymodel/cpu-watch"),
            Panel(self._numbers(), title="users"),
        )

    def _steps(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for step in self.scene.steps:
            mark = "[green]✔[/]" if step.outcome else "[yellow]▶[/]" if step.began else "·"
            took = f"{step.seconds:.1f} s" if step.seconds is not None else ""
            table.add_row(
                mark, step.title, step.outcome or "", took, Text(step.reason, overflow="ellipsis", no_wrap=True)
            )
        return table

    def _tracks(self) -> Table:
        table = Table("track", "color", "version", "revision", "ready", "drift", box=None, padding=(0, 2))
        for track in ("active", "candidate", "standby"):
            if entry := self.scene.world.status.get(track):
                color = str(entry.get("color", ""))
                table.add_row(
                    track,
                    Text(color, style=COLORS.get(color, "")),
                    str(entry.get("version", "")),
                    str(entry.get("revision", "")),
                    str(entry.get("readyReplicas", 0)),
                    self._drift(color),
                )
        return table

    def _drift(self, color: str) -> str:
        values = [
            p["drift"] for p in self.scene.world.seen_pods().values() if p["color"] == color and p["drift"] is not None
        ]
        return " ".join(sorted(values)) or "-"

    def _message(self) -> str:
        status = self.scene.world.status
        return f"{status.get('phase', '')} {status.get('step', '')}: {status.get('message', '')}"

    def _numbers(self) -> Table:
        tally, table = self.scene.tally, Table.grid(padding=(0, 3))
        errors = ", ".join(f"v{version}: {n}" for version, n in sorted(tally.errors.items())) or "0"
        latency = f"{median(tally.latencies_ms):.1f} ms" if tally.latencies_ms else "-"
        share = f"{tally.anomalies / tally.rows:.1%}" if tally.rows else "-"
        table.add_row(
            f"requests {tally.sent}",
            f"lost {tally.lost}",
            f"errors {errors}",
            f"median answer {latency}",
            f"anomalies {share}",
        )
        return table

    def summary(self, report: dict[str, Any]) -> None:
        """Print the table and the facts at the end."""
        table = Table("step", "version", "outcome", "seconds", "reason", title="What happened")
        for step in report["steps"]:
            table.add_row(
                step["name"], str(step["version"] or ""), step["outcome"], f"{step['seconds']:.1f}", step["reason"]
            )
        self.console.print(table)
        self.console.print_json(data={k: v for k, v in report.items() if k not in ("steps", "explanation")})
        self.console.print(Panel(Text(str(report["explanation"])), title="one explained anomaly"))
