"""`firmtrail ask` and `asks`: ask a device a question, and list questions and answers."""

import click

from firmtrail.cli import output, remote
from firmtrail.cli.numbers import Whole


@click.command()
@click.argument("device_id", metavar="DEVICE")
@remote.project_option
@click.option("--wait", type=Whole(0, 60), default=0, help="Seconds to wait for an answer.")
@remote.service_options
@output.json_option
@click.pass_context
def ask(
    ctx: click.Context,
    service: remote.Service,
    /,
    *,
    device_id: str,
    project: str,
    wait: int,
    json: bool,
) -> None:
    """Ask DEVICE which version it runs; with --wait, print the version if it answers in time.

    The exit code is 1 if no answer came in time. The question stays open for a day.
    """
    path = f"{remote.path(project, 'devices', device_id, 'ask')}?wait={wait}"
    answer = service.ask("POST", path, {})
    is_answered = "version" in answer
    if json:
        output.show_json(answer)
    elif is_answered:
        click.echo(answer["version"])
    else:
        lead = "No answer yet" if wait else "Asked"
        later = f"`firmtrail asks {device_id} --project {project}` shows the answer when it comes"
        output.note(f"{lead}; the question is {answer['question']}: {later}.")
        if not wait:  # a script that waits must not take the id for a version
            click.echo(answer["question"])
    if wait and not is_answered:
        ctx.exit(output.FOUND_WRONG)


@click.command()
@click.argument("device_id", metavar="DEVICE")
@remote.project_option
@remote.service_options
@output.json_option
def asks(service: remote.Service, /, *, device_id: str, project: str, json: bool) -> None:
    """List the questions to DEVICE and its answers, the newest first."""
    output.show_list(service.items(remote.path(project, "devices", device_id, "asks")), json=json)
