"""Removes repeated members from the text of a JSON object, without decoding their values.

JSON allows a member to be repeated, and the last one counts. A typed decoder checks each one, so a
long text could make it check the same member for a long time. Texts are passed through here first.
"""

from collections.abc import Callable

import msgspec


def last_of_each(kind: type[msgspec.Struct]) -> Callable[[msgspec.Raw], bytes | msgspec.Raw]:
    """Returns a function that keeps the last of each member that `kind` has, in an object's text;
    it returns any other JSON unchanged. It raises `msgspec.DecodeError` for invalid JSON, and
    `RecursionError` for too deep nesting."""
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
