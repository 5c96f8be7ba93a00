"""Makes the messages of a webhook from entries of the log: the events that it wants, each exactly
as logged, and the notices that follow from an event.

A notice says in one place what several members of an event mean together. It is derived each time,
and never in the log; its id follows from the event, so that a receiver can drop a repeated one.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from firmtrail.database.database import Database
from firmtrail.events.entry import Envelope, decode, envelope_of, types_named
from firmtrail.events.event import Recorded
from firmtrail.events.steering import (
    DeviceFellSilent,
    Halted,
    RolloutPaused,
    RolloutPlanChanged,
    RolloutStarted,
)
from firmtrail.eventstore.log import EntryPage
from firmtrail.projections import device_current
from firmtrail.rules.control import Control
from firmtrail.rules.rollout import RolloutState
from firmtrail.webhooks.sender import Message
from firmtrail.webhooks.stored import Webhook

NoticeOfEvent = Literal["rollout_paused", "rollout_waiting", "halted", "device_silent"]
NoticeOfTime = Literal["phase_began", "rollout_stuck", "log_refused"]
"""The notices that follow from time, or from what a server found; `notices.py` makes them."""
NoticeName = Literal[NoticeOfEvent, NoticeOfTime]

OF_EVENTS: Mapping[str, NoticeOfEvent] = {
    "RolloutPaused": "rollout_paused",
    "RolloutStarted": "rollout_waiting",
    "RolloutPlanChanged": "rollout_waiting",
    "Halted": "halted",
    "DeviceFellSilent": "device_silent",
}
"""The name of an event, and of the notice that may follow from it."""


class LogPlace(NamedTuple):
    """Names a log by its project and number."""

    project: str
    number: int

    def id_of(self, position: int) -> str:
        return f"{self.project}_{self.number}_{position}"

    def notice(
        self,
        name: NoticeName | Literal["test"],
        message_id: str,
        position: int | None,
        members: dict[str, Any],
    ) -> Message:
        """Makes a notice with this id, which is the same each time that it is made."""
        kind = f"firmtrail.notice.{name}.v1"
        body = {
            "specversion": "1.0",
            "id": message_id,
            "source": f"/projects/{self.project}",
            "type": kind,
            **members,
        }
        return Message(message_id, kind, position, self.number, msgspec.json.encode(body))


class Selected(NamedTuple):
    """Holds the messages of an entry."""

    position: int
    messages: list[Message]


async def selected(
    db: Database,
    webhook: Webhook,
    place: LogPlace,
    entries: EntryPage,
    *,
    control: Control,
) -> list[Selected]:
    """Returns the messages of each entry for this webhook; most entries may have none. `control` is
    the project's, as of these entries or later; `webhook.log_id` is the log that it is of."""
    envelopes = [envelope_of(text) for _, _, text in entries]
    subjects = {each.subject for each in envelopes}
    models = {} if webhook.models is None else await _models(db, webhook, control, subjects)
    wanted = _Wanted(webhook, models, control.rollouts)
    return [
        Selected(position, list(wanted.messages(place, position, text, envelope)))
        for (position, _, text), envelope in zip(entries, envelopes, strict=True)
    ]


async def _models(
    db: Database, webhook: Webhook, control: Control, subjects: Iterable[str]
) -> dict[str, str | None]:
    """Returns the model that each subject is about now: a device, a rollout or a release."""
    named = {kind: set[str]() for kind in ("device", "rollout", "release")}
    for subject in subjects:
        kind, _, name = subject.partition("/")
        named.get(kind, set()).add(name)
    devices = await device_current.models(db, webhook.log_id, sorted(named["device"]))
    rollouts = control.rollouts
    return {
        **{f"device/{name}": model for name, model in devices.items()},
        **{f"rollout/{n}": rollouts[n].model for n in named["rollout"] if n in rollouts},
        **{f"release/{name}": name.partition("/")[0] for name in named["release"]},
    }


class _Wanted:
    """Decides which messages one webhook gets."""

    def __init__(
        self,
        webhook: Webhook,
        models: Mapping[str, str | None],
        rollouts: Mapping[str, RolloutState],
    ) -> None:
        self._webhook = webhook
        self._models = models
        self._rollouts = rollouts
        names = webhook.types
        self._types = None if names is None else frozenset().union(*map(types_named, names))

    def messages(
        self, place: LogPlace, position: int, text: str, envelope: Envelope[Any]
    ) -> Iterator[Message]:
        wanted = self._webhook.models
        if wanted is not None and self._models.get(envelope.subject) not in wanted:
            return
        if self._types is None or envelope.type in self._types:
            event_id = f"event_{place.id_of(position)}"
            yield Message(event_id, envelope.type, position, place.number, text.encode())
        name = OF_EVENTS.get(envelope.type.split(".")[1])
        if name in self._webhook.notices and name is not None:
            data = _notice_data(decode(position, text), self._rollouts)
            if data is not None:
                about = {"subject": envelope.subject, "time": envelope.time, "data": data}
                message_id = f"notice_{name}_{place.id_of(position)}"
                yield place.notice(name, message_id, position, about)


def _notice_data(recorded: Recorded, rollouts: Mapping[str, RolloutState]) -> dict[str, Any] | None:
    """Returns what a notice says of this event; None: no notice follows from it."""
    name = recorded.stream.partition("/")[2]
    match recorded.event:
        case RolloutPaused(failed=int(failed), installed=installed):
            return {"rollout": name, "failed": failed, "installed": installed or 0}
        case RolloutStarted(approvals=int(approvals)) as event if approvals > 0:
            said = {"version": event.version, "model": event.model, "approvals": approvals}
            return {"rollout": name, **said}
        case RolloutPlanChanged(approvals=int(approvals)) if approvals > 0 and name in rollouts:
            found = rollouts[name]
            said = {"version": found.version, "model": found.model, "approvals": approvals}
            return {"rollout": name, **said}
        case Halted() as event:
            return {"all": event.all}
        case DeviceFellSilent() as event:
            return {"device": name, **msgspec.to_builtins(event)}
    return None
