"""Changes the attributes of a device, and records what follows from them.

Attributes are kept outside the log. A running version among them becomes a report, and a model a
change of the device, as if the device had sent those. Both follow after the attributes are stored.
If this process ends in between, the client says the same again, and the rest is recorded then.
"""

from collections.abc import Callable
from typing import NamedTuple

from firmtrail.access import attributes
from firmtrail.access.attributes import ReportedAttributes
from firmtrail.commands import devices
from firmtrail.database.database import Database
from firmtrail.events.fleet import DeviceChanged, Status
from firmtrail.projections import check_in
from firmtrail.projections.check_in import DeviceAtCheckIn
from firmtrail.recording.commit import Commit
from firmtrail.recording.recorder import LogCommand, Recorder
from firmtrail.rules import artifact, device
from firmtrail.rules import attributes as rules
from firmtrail.rules.attributes import Attributes, Mode
from firmtrail.rules.control import Control
from firmtrail.rules.device import DeviceState
from firmtrail.rules.report import ReportCommand


class AttributesChange(NamedTuple):
    """Holds a change of a device's attributes, made by `actor` at `now_ms`."""

    mode: Mode
    data: Attributes
    actor: str
    now_ms: int
    changed: Callable[[Attributes, Mode, Attributes], dict[str, str]] = rules.changed
    """Decides what the attributes are afterwards."""


class DeviceOfLog(NamedTuple):
    """Names a device, its project, and the project's newest log."""

    log_id: int
    project: str
    device: str


async def set_attributes(
    db: Database, recorder: Recorder, whose: DeviceOfLog, change: AttributesChange
) -> ReportedAttributes:
    """Changes the device's attributes and returns them. If they name another version or model than
    is recorded, that is recorded. Raises `Refused` if there is no such device, it is
    decommissioned, or the attributes would be too many."""
    seen, state = await _seen(db, whose)
    changed = await attributes.change(
        db,
        (whose.project, whose.device),
        change.mode,
        change.data,
        now_ms=change.now_ms,
        changed=change.changed,
    )
    if change.mode != "remove" and change.data:
        control = await recorder.controls.at(whose.log_id, seen.counts.control)
        model = rules.named_model(control.settings, state, change.data)
        if model is not None:
            await recorder.act(whose.log_id, _naming(state, model, change.actor))
        report = _report(control, seen, model or state.model, change)
        if report is not None:
            await recorder.report_one(whose.log_id, report)
    return changed


async def _seen(db: Database, whose: DeviceOfLog) -> tuple[DeviceAtCheckIn, DeviceState]:
    rows = await db.read(check_in.load([(whose.log_id, whose.device)]))
    seen = check_in.device_of([row[1:] for row in rows])
    known = {} if seen.state is None else {whose.device: seen.state}
    return seen, device.active_device(known, whose.device)


def _naming(before: DeviceState, model: str, actor: str) -> LogCommand[None]:
    """Returns a command that changes the model, unless somebody changed it since `before`."""
    change = devices.change(
        before.device, devices.WantedChange(DeviceChanged(model=model)), actor=actor
    )

    async def command(commit: Commit) -> None:
        state = (await commit.devices([before.device])).get(before.device)
        if state is not None and not state.decommissioned and state.model == before.model:
            await change(commit)

    return command


def _report(
    control: Control, seen: DeviceAtCheckIn, model: str | None, change: AttributesChange
) -> ReportCommand | None:
    """Returns the report that the attributes mean; None if they name no version, or no news. A
    device that installed the version before has installed it now."""
    state = seen.state
    text = rules.version_text(control.settings, change.data)
    named = None if text is None else artifact.version_named(control, model, text)
    if state is None or named is None:
        return None
    if seen.question is None and not rules.is_news(state, named):
        return None
    status: Status = "installed" if state.installing_version == named else "running"
    return ReportCommand(
        state.device,
        named,
        status,
        change.actor,
        question=seen.question,
        sent=None if text == named else text,
    )
