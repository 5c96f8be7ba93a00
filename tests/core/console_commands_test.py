"""Pages of the console that are empty name commands that exist."""

import re
import shlex
from importlib import resources

import click
import pytest

from firmtrail.main import main

TEMPLATES = resources.files("firmtrail.console") / "templates"
NAMED = sorted(
    {
        re.sub(r'" ~ [^"]+ ~ "|" ~ [^"]+$', "NAME", found)
        for page in TEMPLATES.iterdir()
        for found in re.findall(r'ui\.empty\("(firmtrail .*?)"?\) ?%\}', page.read_text())
    }
)


def test_empty_pages_name_commands() -> None:
    assert len(NAMED) > 5


@pytest.mark.parametrize("line", NAMED)
def test_a_command_that_an_empty_page_names_can_be_run(line: str) -> None:
    command: click.Command = main
    _, *words = shlex.split(line)
    context = click.Context(command, info_name="firmtrail")
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
        context = click.Context(command, parent=context)
    given, rest, _ = command.make_parser(context).parse_args(words)
    assert rest == []
    missing = [each.name for each in command.params if each.required and each.name not in given]
    assert missing == []
