"""Decides on the attributes of a device: pairs of texts that the device says of itself. Pure.

Attributes are kept outside the log. Two of them can mean more: the version that runs, and the
model. A project can name the attribute that carries each; without a name, the attributes count that
clients of hawkBit send (`VERSION_ATTRIBUTES`, `MODEL_ATTRIBUTES`).
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import islice
from typing import Literal

from firmtrail.rules.device import DeviceState, Refused
from firmtrail.rules.settings import Settings

ATTRIBUTES_MAX = 100
KEY_CHARACTERS_MAX = 128
VALUE_CHARACTERS_MAX = 512

SENT_MAX = 10 * ATTRIBUTES_MAX
"""Limits the attributes that are read of what a client of another protocol sends: the version may
stand among more than are kept."""
_EXAMINED_MAX = 2 * VALUE_CHARACTERS_MAX
"""Limits the characters, or the items, of a value of which its text is made."""

VERSION_ATTRIBUTES = ("memfault__current_version", "firmtrail.version", "version")
"""The attributes that carry the running version, if the project names none: the first that is
there counts."""
MODEL_ATTRIBUTES = ("memfault__hardware_version", "firmtrail.model")
"""The attributes that carry the model, if the project names none."""

_MODEL = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

type Attributes = Mapping[str, str]
type Mode = Literal["merge", "replace", "remove"]


def changed(before: Attributes, mode: Mode, data: Attributes) -> dict[str, str]:
    """Returns the attributes after a change. Raises `Refused` if they are too many."""
    match mode:
        case "merge":
            after = {**before, **data}
        case "replace":
            after = dict(data)
        case "remove":
            after = {key: value for key, value in before.items() if key not in data}
    if len(after) > ATTRIBUTES_MAX:
        raise Refused(
            "too_many_attributes",
            f"The attributes were not changed: the device would have {len(after)}, and "
            f"{ATTRIBUTES_MAX} is the most. Remove some, or replace all.",
            status=422,
            member="data",
        )
    return after


def changed_as_fits(before: Attributes, mode: Mode, data: Attributes) -> dict[str, str]:
    """Returns the attributes after a change by a client of another protocol: those for which there
    is no room are left out."""
    if mode == "remove":
        return changed(before, mode, data)
    kept = before if mode == "merge" else {}
    room = max(0, ATTRIBUTES_MAX - len(kept))
    added = islice((each for each in data if each not in kept), room)
    return {**kept, **{each: data[each] for each in (*(kept.keys() & data.keys()), *added)}}


def fitted(data: Mapping[str, object]) -> dict[str, str]:
    """Returns what fits of the attributes that a client of another protocol sent: long values are
    cut, several values of a key are joined, and a key that does not fit is left out, as are all
    after the first `SENT_MAX`. Such a client does not read errors, and its update must not stop for
    one."""
    fitting: dict[str, str] = {}
    for key, value in islice(data.items(), SENT_MAX):
        if 0 < len(key) <= KEY_CHARACTERS_MAX and _is_storable(key):
            fitting[key] = _text(value)[:VALUE_CHARACTERS_MAX]
    return fitting


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        text = ",".join(map(str, value[:_EXAMINED_MAX]))
    else:
        text = str(value)
    return "".join(each for each in text[:_EXAMINED_MAX] if _is_storable(each))


def _is_storable(text: str) -> bool:
    """Returns whether a database can store the text: no NUL, and no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def pairs(attributes: Attributes) -> set[str]:
    """Returns the digests by which devices with these attributes are found."""
    return {pair(f"{key}:{value}") for key, value in attributes.items()}


def pair(text: str) -> str:
    """Returns the digest of a pair, "key:value". A digest has a length that every index takes."""
    return sha256(text.encode()).hexdigest()[:32]


def version_text(settings: Settings, said: Attributes) -> str | None:
    """Returns the running version as the device named it in these attributes, if it did."""
    return _first(settings.version_attribute, VERSION_ATTRIBUTES, said)


def named_model(settings: Settings, state: DeviceState, said: Attributes) -> str | None:
    """Returns the model that the device may give itself by these attributes, if there is one.

    A device without a model may name it once. Only a project that names a model attribute lets
    devices change their model, because a device can be offered, and load, the releases of its
    model.
    """
    if state.model is not None and settings.model_attribute is None:
        return None
    model = _first(settings.model_attribute, MODEL_ATTRIBUTES, said)
    is_name = model is not None and _MODEL.fullmatch(model) is not None
    return model if is_name and model != state.model else None


def _first(named: str | None, defaults: Iterable[str], said: Attributes) -> str | None:
    keys = defaults if named is None else (named,)
    return next((said[key] for key in keys if key in said), None)


def is_news(state: DeviceState, version: str) -> bool:
    """Returns whether it is worth recording that the device runs the version: it ran another one,
    or was about to run another one. So a client that repeats its attributes records nothing."""
    return state.version != version or state.installing_version is not None
