"""Reads an object's members without looking at what they hold.

In JSON a member may be given any number of times, and the last one counts. Each one that a typed
decoder meets is checked, so a long text can make it check one member for a long time. What passes
through here holds every member once.
"""

from collections.abc import Callable

import msgspec


def last_of_each(kind: type[msgspec.Struct]) -> Callable[[msgspec.Raw], bytes | msgspec.Raw]:
    """Returns what leaves of an object's text the last one of each member that `kind` knows.

    A text that is no object, or that holds a member that `kind` forbids, stays as it is.
    Raises `msgspec.DecodeError` for what is no JSON, and `RecursionError` for what nests too deep.
    """
    fields = msgspec.structs.fields(kind)
    members = msgspec.defstruct(
        "Members",
        [(each.name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for each in fields],
        rename={each.name: each.encode_name for each in fields},
        forbid_unknown_fields=kind.__struct_config__.forbid_unknown_fields,
    )
    decode, encode = msgspec.json.Decoder(members).decode, msgspec.json.encode

    def shortened(text: msgspec.Raw) -> bytes | msgspec.Raw:
        try:
            return encode(decode(text))
        except msgspec.ValidationError:
            return text

    return shortened
