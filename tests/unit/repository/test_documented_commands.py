"""What the documentation tells people to type is accepted by the programs."""

import re
import shlex
from pathlib import Path

import pytest

from anomaly_detector.train import arguments
from anomaly_detector.train.__main__ import COMMANDS
from anomaly_operator.cli.__main__ import main as kubectl_anomaly

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "demo" / "recordings" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = {"kubectl anomaly": "cli", "anomaly-train": "train"}
SPAN = re.compile(r"`((?:kubectl anomaly|anomaly-train) [^`]+)`")
ROW = re.compile(r"^\| ((?:`[a-z-]+[^`]*`(?:, )?)+) \|", re.MULTILINE)


def typed():
    """Return (page, command) of each line at a prompt."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"^\$ (.+)$", text, re.MULTILINE):
            yield from ((page.name, line) for program in PROGRAMS if line.startswith(program + " "))


def mentioned():
    """Return (page, command) of each command within a sentence or in the table of commands, with words left out."""
    for page in PAGES:
        yield from ((page.name, span) for span in SPAN.findall(page.read_text()) if "..." not in span)
    table = ROW.findall((ROOT / "docs" / "cli.md").read_text())
    assert len(table) > 10
    for row in table:
        yield from (("cli.md", f"kubectl anomaly {span}") for span in re.findall(r"`([^`]+)`", row))


def words_of(command):
    """Return which program it is, and its words: what is optional is given."""
    program = next(program for program in PROGRAMS if command.startswith(program))
    words = shlex.split(re.sub(r"[\[\]]|\.\.\.", "", command.removeprefix(program)))
    return PROGRAMS[program], words


def help_of(program, words, capsys):
    """Return the command's --help; fails if there is no such command."""
    if program == "train":
        command = words[0] if words[0] in COMMANDS else "train"
        ask = arguments.parser().parse_args
    else:
        command, ask = words[0], kubectl_anomaly
    with pytest.raises(SystemExit) as ended:
        ask([command, "--help"])
    assert ended.value.code == 0, f"no command {command}"
    return capsys.readouterr().out


@pytest.mark.parametrize(("page", "command"), [*typed(), *mentioned()])
def test_each_documented_command_and_its_options_are_known(page, command, capsys):
    program, words = words_of(command)
    told = help_of(program, words, capsys)
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    assert [option for option in options if not re.search(rf"(?<![\w-]){option}\b", told)] == [], page


def test_commands_at_a_prompt_are_complete():
    whole = [words_of(command) for _, command in typed()]
    assert len(whole) > 5
    for program, words in whole:
        if program == "train":
            arguments.parser().parse_args(words if words[0] in COMMANDS else ["train", *words])
