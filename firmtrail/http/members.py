"""Removes repeated members from a JSON object, without decoding what the members hold.

In JSON a member may be given any number of times, and the last one counts. A typed decoder checks
every repetition, so a long text can make it check one member for a long time. A text that passed
through this module holds each member once.
"""

from collections.abc import Callable

import msgspec


def last_of_each(kind: type[msgspec.Struct]) -> Callable[[msgspec.Raw], bytes | msgspec.Raw]:
    """Returns a function that keeps only the last value of each member that `kind` knows.

    The function leaves a text as it is that is not an object, or that holds a member that `kind`
    forbids. It raises `msgspec.DecodeError` for text that is not JSON, and `RecursionError` for
    text that nests too deep.
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
