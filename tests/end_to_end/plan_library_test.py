"""Starts each rollout of the library of plans in docs/rollouts.md as the docs say it."""

import re
import shlex
from pathlib import Path

import yaml

from tests.end_to_end.command import in_process, new_project
from tests.end_to_end.conftest import Serve

DOCS = Path(__file__).parents[2] / "docs" / "rollouts.md"
LIBRARY = DOCS.read_text().split("### A library of plans\n")[1].split("\n### ")[0]
PLANS = {"canary.yaml", "1-10-100.yaml", "weekdays.yaml", "region.yaml"}


def blocks(language: str) -> list[str]:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", LIBRARY, re.DOTALL)
    return found


def commands() -> list[list[str]]:
    """Returns the arguments of each command in the library."""
    lines = "\n".join(blocks("sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line]


def test_every_plan_of_the_library_starts(serve: Serve, sqlite_url: str, tmp_path: Path) -> None:
    token = new_project(sqlite_url)
    where = {"FIRMTRAIL_URL": serve(sqlite_url).url, "FIRMTRAIL_TOKEN": token}
    added = in_process(
        sqlite_url, "release", "add", "1.5.0", "--project", "acme", "--model", "pump", **where
    )
    assert added.exit_code == 0, added.said
    files = {block.splitlines()[0].removeprefix("# "): block for block in blocks("yaml")}
    assert set(files) == PLANS
    started: dict[str, str] = {}
    for arguments in commands():
        place = arguments.index("--plan") + 1
        name = arguments[place]
        (tmp_path / name).write_text(files[name])
        arguments[place] = str(tmp_path / name)
        done = in_process(sqlite_url, *arguments, **where)
        assert done.exit_code == 0, done.said
        started[done.out.strip()] = name
    assert set(started.values()) == PLANS
    for rollout, name in started.items():
        shown = in_process(
            sqlite_url, "rollout", "show", rollout, "--project", "acme", "--json", **where
        ).json
        wanted = yaml.safe_load(files[name])["phases"]
        assert [each["percent"] for each in shown["phases"]] == [e["percent"] for e in wanted]
        assert [each["after_s"] for each in shown["phases"]] == [e.get("after_s") for e in wanted]
        assert [each["when"] for each in shown["phases"]] == [e.get("when") for e in wanted]
        assert (shown["window"] is not None) == (name == "weekdays.yaml")
        assert shown["state"] in {"running", "scheduled"}
