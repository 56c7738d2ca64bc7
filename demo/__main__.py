"""Tell the whole story of an AnomalyModel on this machine, from nothing: `make demo`."""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

import recording
from report import summarise
from stage import StageError, stage
from story import BATCH, DidNotHappenError, Story
from traffic import Tally, Traffic
from view import Scene, Step, View

REPORT = Path("demo-report.json")
STEPS = (
    ("deploy", "First deployment"),
    ("promote", "A better version"),
    ("abort", "A bad version, caught before users see it"),
    ("rollback", "A version that goes bad after its promotion"),
    ("drift", "The world drifts"),
    ("retrain", "A version for the new world, with no hand"),
)


async def demo(*, keep: bool) -> int:
    """Play the story and write the report; returns the exit code."""
    tally = Tally()
    scene = Scene(steps=[Step(name, title) for name, title in STEPS], tally=tally)
    view = View(scene)
    with view.live():
        async with stage(view.say, keep=keep) as theatre:
            scene.world = theatre.world
            traffic = Traffic(recording.batches(theatre.replay, BATCH), tally)
            story = Story(theatre, view, traffic)
            problem = ""
            try:
                await story.tell()
            except (DidNotHappenError, StageError) as error:
                problem = str(error)
            finally:
                await story.stop()
            if problem:
                view.say(await theatre.explain_failure())
            report = summarise(scene, story.rollback, story.retraining)
    REPORT.write_text(json.dumps(report, indent=2) + "\n")  # noqa: ASYNC240 - everything else has ended
    view.summary(report)
    for complaint in filter(None, [problem, *story.complaints()]):
        view.console.print(f"[red]It did not go as told:[/] {complaint}", highlight=False)
        problem = complaint
    if keep:
        view.console.print(theatre.how_to_play(), highlight=False, soft_wrap=True)
    return 1 if problem else 0


async def _interruptible(*, keep: bool) -> int:
    task = asyncio.current_task()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)  # type: ignore[union-attr]
    return await demo(keep=keep)


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything running at the end, to play with")
    options = parser.parse_args()
    try:
        return asyncio.run(_interruptible(keep=options.keep))
    except StageError as error:
        print(f"The stage could not be set: {error}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        pass
    print("Interrupted; everything that was started is stopped.", file=sys.stderr)
    return 130


if __name__ == "__main__":
    sys.exit(main())
