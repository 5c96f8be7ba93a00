"""Shows a project's settings, and lets an admin change them.

The page follows from the resource of the API: each of its settings has a field, and the resource's
own functions read, check and write them. If somebody else changed the settings since the page was
shown, nothing is saved: the page then says what changed, and still has what the person typed.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from aiohttp import web
from msgspec import Meta, inspect

from firmtrail.console import render
from firmtrail.console.rows import ADMINISTER, PROJECT, PageQuery, action, page
from firmtrail.http.call import AnyCall, Call
from firmtrail.http.errors import BadRequest, Fault, Stale
from firmtrail.http.faults import faults_of
from firmtrail.http.route import Route

SETTINGS = f"{PROJECT}/settings"

# Without a hook, msgspec takes long for a number such as 1e300.
_decode = msgspec.json.Decoder(float_hook=float).decode
_decode_members = msgspec.json.Decoder(dict[str, Any], float_hook=float).decode

type FieldKind = Literal["switch", "number", "text", "choice", "json"]
type Written = Annotated[str, Meta(max_length=16_384)]
type SettingsCheck = Callable[[msgspec.Struct], None]


class SettingsQuery(PageQuery, frozen=True, kw_only=True):
    """Says that the settings were just saved."""

    saved: Literal["yes"] | None = None


class Resource(NamedTuple):
    """Holds the settings' resource of the API."""

    change: type[msgspec.Struct]
    """The body of a change; each member is a setting."""
    read: Callable[[AnyCall], Awaitable[msgspec.Struct]]
    write: Callable[[AnyCall, Any, SettingsCheck], Awaitable[None]]
    """Changes settings, once the check of those before has passed."""


class SettingField(NamedTuple):
    """Describes the field of a setting."""

    name: str
    kind: FieldKind
    label: str
    hint: str
    is_optional: bool
    least: int | None = None
    most: int | None = None
    choices: tuple[str, ...] = ()


WORDS: Mapping[str, tuple[str, str]] = {
    "follow_latest": (
        "Follow the latest release",
        "A device that no rollout reaches is sent to the latest release of its model.",
    ),
    "poll_after_s": ("Seconds between two check-ins", "Devices spread by 20 % either way."),
    "max_attempts": (
        "Failed attempts at a version",
        "After this many failures, a device is not offered the version again.",
    ),
    "public_checkpoint": (
        "Publish checkpoint and key",
        "Anybody may read the log's checkpoint and its key, and learns how many events it has.",
    ),
    "window": (
        "Maintenance window",
        'Of every rollout that names none, as JSON: {"cron", "duration_s", "timezone"}.',
    ),
    "model_windows": ("Windows by model", "JSON; instead of the project's window."),
    "cohort_windows": ("Windows by cohort", "JSON; instead of the model's window."),
    "approvals": (
        "Approvals of a rollout",
        "So many other members have to approve a rollout before it offers anything.",
    ),
    "approve_from_devices": (
        "Approvals from so many devices",
        "Smaller rollouts need no approval.",
    ),
    "auto_rollout": (
        "Automatic rollouts",
        "JSON by model: the plan, window and pause_if of the rollout that a new release starts.",
    ),
    "artifact_names": (
        "Artifacts by protocol",
        "JSON: for each protocol, the name or suffix of the artifact that its devices get.",
    ),
    "hawkbit_parts": (
        "Parts of hawkBit clients",
        'JSON by model: the kind of software that they expect, "os" where nothing is said.',
    ),
    "certificate_pattern": (
        "Certificates of devices",
        "The names that make a client certificate a device's: O=acme,CN={device}.",
    ),
    "enrolment": (
        "Devices that nobody registered",
        "closed: they are refused. approve: they wait for an operator. open: they are registered.",
    ),
    "mender_id_attribute": (
        "Mender: attribute with the device's name",
        "Of the identity data that a Mender client sends.",
    ),
    "version_attribute": (
        "Attribute with the version",
        "A changed version there counts as a report.",
    ),
    "model_attribute": ("Attribute with the model", "A changed model there is the device's."),
}
"""The label and the hint of each setting."""


def routes(resource: Resource) -> tuple[Route, ...]:
    """Returns the page's routes, made from the resource of the API."""
    fields = [_field(each) for each in msgspec.structs.fields(resource.change)]
    shown = _Page(resource, fields)
    written: list[tuple[str, Any, Any]] = [(field.name, Written, "") for field in fields]
    form = msgspec.defstruct("SettingsForm", [("seen", Written), *written], frozen=True)
    return (
        page(SETTINGS, shown.get_settings, query=SettingsQuery),
        action(SETTINGS, shown.post_settings, ADMINISTER, form=form),
    )


def _field(each: Any) -> SettingField:
    kinds, is_optional = _kinds(each.type)
    label, hint = WORDS.get(each.name, (each.name.replace("_", " "), ""))
    make = SettingField(each.name, "json", label, hint, is_optional)
    match kinds:
        case [inspect.BoolType()]:
            return make._replace(kind="switch")
        case [inspect.IntType(ge=least, le=most)]:
            return make._replace(kind="number", least=least, most=most)
        case [inspect.LiteralType(values=choices)]:
            return make._replace(kind="choice", choices=tuple(map(str, choices)))
        case [inspect.StrType()]:
            return make._replace(kind="text")
        case _:
            return make


def _kinds(declared: Any) -> tuple[list[Any], bool]:
    """Returns the kinds of values that a setting takes, and whether it may be null."""
    info = inspect.type_info(declared)
    every = info.types if isinstance(info, inspect.UnionType) else (info,)
    plain = [each.type if isinstance(each, inspect.Metadata) else each for each in every]
    absent = (inspect.NoneType, inspect.CustomType)
    is_optional = any(isinstance(each, inspect.NoneType) for each in plain)
    return [each for each in plain if not isinstance(each, absent)], is_optional


class _Page:
    """Holds the handlers of the page of one resource."""

    def __init__(self, resource: Resource, fields: list[SettingField]) -> None:
        self._resource = resource
        self._fields = fields

    async def get_settings(self, call: Call[SettingsQuery, None]) -> web.Response:
        """Show the settings of the project."""
        now = await self._now(call)
        return self._shown(call, now, self._texts(now))

    async def post_settings(self, call: Call[Any, Any]) -> web.Response:
        """Change the settings of the project."""
        typed = {field.name: getattr(call.body, field.name) for field in self._fields}
        seen = self._seen(call.body.seen)
        wanted, faults = self._read(typed)
        faults += [] if faults else faults_of(wanted, self._resource.change)
        if faults:
            return self._shown(call, seen, typed, now=await self._now(call), faults=faults)
        changed = {name: value for name, value in wanted.items() if value != seen[name]}
        body = msgspec.convert(changed, self._resource.change)

        def check(before: msgspec.Struct) -> None:
            if self._values(before) != seen:
                raise Stale("The settings have changed.")

        try:
            await self._resource.write(call, body, check)
        except Stale:
            return self._shown(call, seen, typed, now=await self._now(call))
        return render.redirect(call, "settings", saved="yes")

    def _seen(self, text: str) -> dict[str, Any]:
        """Returns the settings that the form was made from."""
        try:
            seen = _decode_members(text)
        except msgspec.MsgspecError:
            seen = {}
        if seen.keys() != {field.name for field in self._fields}:
            raise BadRequest(
                "The form does not say which settings it was made from: open it again."
            )
        return seen

    async def _now(self, call: AnyCall) -> dict[str, Any]:
        return self._values(await self._resource.read(call))

    def _values(self, state: msgspec.Struct) -> dict[str, Any]:
        shown = msgspec.to_builtins(state)
        return {field.name: shown[field.name] for field in self._fields}

    def _texts(self, values: Mapping[str, Any]) -> dict[str, str]:
        return {field.name: _text(field, values[field.name]) for field in self._fields}

    def _read(self, typed: Mapping[str, str]) -> tuple[dict[str, Any], list[Fault]]:
        """Returns the values that the texts mean, and the faults of those that mean none."""
        values: dict[str, Any] = {}
        faults: list[Fault] = []
        for field in self._fields:
            try:
                values[field.name] = _value(field, typed[field.name].strip())
            except ValueError as error:
                faults.append(Fault(str(error), pointer=f"/{field.name}"))
        return values, faults

    def _shown(
        self,
        call: AnyCall,
        seen: Mapping[str, Any],
        texts: Mapping[str, str],
        *,
        now: Mapping[str, Any] | None = None,
        faults: list[Fault] | None = None,
    ) -> web.Response:
        """Shows the form with these texts. Under `now`, it shows what others changed since."""
        now = seen if now is None else now
        before, after = self._texts(seen), self._texts(now)
        moved = [each for each in self._fields if before[each.name] != after[each.name]]
        status = HTTPStatus.OK
        if faults or moved:
            status = HTTPStatus.UNPROCESSABLE_ENTITY if faults else HTTPStatus.PRECONDITION_FAILED
        return render.page(
            call,
            "settings.html",
            title="Settings",
            status=status,
            fields=self._fields,
            texts=texts,
            moved=moved,
            before=before,
            after=after,
            faults={str(each.pointer).split("/")[1]: each.reason for each in faults or []},
            seen=msgspec.json.encode(dict(now)).decode(),
        )


def _text(field: SettingField, value: Any) -> str:
    """Returns the value as the field shows it."""
    if field.kind == "json":
        return msgspec.json.format(msgspec.json.encode(value)).decode() if value else ""
    if field.kind == "switch":
        return "true" if value else ""
    return "" if value is None else str(value)


def _value(field: SettingField, text: str) -> Any:
    """Returns what the text in the field means. Raises `ValueError` with a reason."""
    match field.kind:
        case "switch":
            return text == "true"
        case "number":
            if not text.isascii() or not text.isdigit():
                raise ValueError("is not a whole number")
            return int(text)
        case "json":
            return _json(text, None if field.is_optional else {})
        case _:
            return text or (None if field.is_optional else "")


def _json(text: str, empty: Any) -> Any:
    if not text:
        return empty
    try:
        return _decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
