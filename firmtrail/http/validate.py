"""Is this body, or this query, what the route takes? If not: everything that is wrong with it.

A valid request costs one typed msgspec decode. Only a faulty one is gone through member by member,
to name all its faults at once (at most `FAULTS_MAX`) with their JSON pointers, those too that are
found by a struct's own `__post_init__` and not by the types of its members. What is no JSON at
all, is no UTF-8, holds NUL or nests too deep is `BadRequest`; what is JSON and wrong is `Invalid`.
"""

import itertools
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAliasType, Union

import msgspec
from multidict import MultiMapping

from firmtrail.http.errors import FAULTS_MAX, BadRequest, Fault, Invalid
from firmtrail.http.texts import SEQ_MAX


def _number(text: str) -> int | float:
    """JSON knows one kind of number: 4711.0 is an integer. 1e400 is well-formed, and no number."""
    number = float(text)
    return int(number) if number.is_integer() and abs(number) <= SEQ_MAX else number


_decode_any = msgspec.json.Decoder(float_hook=_number).decode

type Reader = Callable[[bytes], Any]


class Faulty(msgspec.Struct, frozen=True):
    """An item of an array that is not what it should be."""

    faults: list[Fault]


type Broken = tuple[str, str]
"""A member that breaks a rule which its type can't say, and how it does."""


class BrokenRules(ValueError):
    """Raised by a struct's `__post_init__`, which is asked of a faulty body too: then a member that
    is missing or of the wrong type is None in it, or its default."""

    def __init__(self, broken: Sequence[Broken]) -> None:
        super().__init__(broken)
        self.broken = broken


def hold(*found: Broken | None) -> None:
    """Raises `BrokenRules` if any was found broken."""
    if broken := [each for each in found if each is not None]:
        raise BrokenRules(broken)


def body_reader(kind: Any) -> Reader:
    """Read bytes as `kind`, a Struct or a union of a Struct and an array of it."""
    decode = msgspec.json.Decoder(kind).decode

    def read(body: bytes) -> Any:
        text = _text(body)
        try:
            decoded = decode(text)
        except (msgspec.DecodeError, RecursionError):
            return _read_slowly(text, kind)
        if "\\u0000" in text:
            _parsed(text)
        return decoded

    return read


def _read_slowly(text: str, kind: Any) -> Any:
    """Read what the typed decoder would not take; mostly there is something wrong with it."""
    value = _parsed(text)
    if faults := faults_of(value, kind):
        raise _invalid(faults)
    return msgspec.convert(value, kind)


def skipping_reader(kind: Any) -> Reader:
    """As `body_reader`, but a faulty item of an array becomes a `Faulty` in its place."""
    read = body_reader(kind)
    [item_kind] = typing.get_args(_arm(_bare(kind), []))

    def read_skipping(body: bytes) -> Any:
        try:
            return read(body)
        except Invalid:
            value = _parsed(_text(body))
            if not isinstance(value, list):
                raise
        return [_item(each, item_kind) for each in value]

    return read_skipping


def _item(value: object, kind: Any) -> Any:
    faults = faults_of(value, kind)
    return Faulty(faults) if faults else msgspec.convert(value, kind)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The body is not UTF-8: byte {error.start}.") from None


def _parsed(text: str) -> object:
    """Any JSON value; raises `BadRequest` for what is none that we can keep."""
    try:
        value = _decode_any(text)
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}.") from None
    except RecursionError:
        raise BadRequest("The body nests too deep.") from None
    if "\\u0000" in text and any("\0" in each for each in _strings(value)):
        raise BadRequest("The body holds the character NUL.")
    return value


def _strings(value: object) -> Iterator[str]:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case list() as items:
                waiting += items
            case dict() as members:
                waiting += [*members.keys(), *members.values()]


def faults_of(value: object, kind: Any) -> list[Fault]:
    """Everything that keeps `value`, decoded JSON, from being `kind`."""
    return list(itertools.islice(_faults(value, kind, ""), FAULTS_MAX))


def _invalid(faults: list[Fault]) -> Invalid:
    return Invalid(_summary(faults), faults=faults)


def _summary(faults: list[Fault]) -> str:
    first = faults[0]
    where = first.pointer or first.parameter or "the body"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{where}: {first.reason}{more}"


def _faults(value: object, kind: Any, pointer: str) -> Iterator[Fault]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        inner = _inner_faults(value, _arm(_bare(kind), value), pointer)
        first = next(inner, Fault(_reason(error, kind), pointer=pointer))
        yield first
        yield from inner


def _inner_faults(value: object, kind: Any, pointer: str) -> Iterator[Fault]:
    if isinstance(value, dict) and _is_struct(kind):
        yield from _member_faults(value, kind, pointer)
    elif isinstance(value, list) and typing.get_origin(kind) in {list, tuple}:
        item = typing.get_args(kind)[0]
        for index, each in enumerate(value):
            yield from _faults(each, item, f"{pointer}/{index}")


def _member_faults(value: dict[str, object], kind: Any, pointer: str) -> Iterator[Fault]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    good: dict[str, Any] = {}
    for name, field in fields.items():
        if name in value:
            faults = list(_faults(value[name], field.type, f"{pointer}/{_escaped(name)}"))
            yield from faults
            if not faults:
                good[field.name] = msgspec.convert(value[name], field.type)
        elif field.required:
            yield Fault("is missing", pointer=f"{pointer}/{_escaped(name)}")
    yield from _rule_faults(value, good, kind, pointer)
    if kind.__struct_config__.forbid_unknown_fields:
        for name in value.keys() - fields.keys():
            yield Fault("is unknown here", pointer=f"{pointer}/{_escaped(name)}")


def _rule_faults(
    value: dict[str, object], good: dict[str, Any], kind: Any, pointer: str
) -> Iterator[Fault]:
    """Which rules the members break that are of the right type, whatever the others are."""
    required = (field.name for field in msgspec.structs.fields(kind) if field.required)
    try:
        kind(**(dict.fromkeys(required) | good))
    except BrokenRules as error:
        for name, reason in error.broken:
            if name in value and name not in good:
                continue  # it is there, of another type: that was said
            yield Fault(reason, pointer=f"{pointer}/{_escaped(name)}")


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _reason(error: msgspec.ValidationError, kind: Any) -> str:
    message, _, _ = str(error).partition(" - at ")
    expected = _description(kind)
    if "matching regex" in message and expected:
        return f"expected {expected}"
    return message[:1].lower() + message[1:]


def _bare(kind: Any) -> Any:
    """The type behind aliases and annotations."""
    while True:
        if isinstance(kind, TypeAliasType):
            kind = kind.__value__
        elif typing.get_origin(kind) is typing.Annotated:
            kind = typing.get_args(kind)[0]
        else:
            return kind


def _metas(kind: Any) -> Iterator[msgspec.Meta]:
    while isinstance(kind, TypeAliasType):
        kind = kind.__value__
    if typing.get_origin(kind) is typing.Annotated:
        yield from (meta for meta in kind.__metadata__ if isinstance(meta, msgspec.Meta))
    for arm in _arms(_bare(kind)):
        yield from _metas(arm)


def _description(kind: Any) -> str:
    return next((meta.description for meta in _metas(kind) if meta.description), "")


def _arms(kind: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(kind) in {Union, types.UnionType}
    return typing.get_args(kind) if is_union else ()


def _arm(kind: Any, value: object) -> Any:
    """The part of a union that a JSON object or array means; the type itself if it is none."""
    for arm in _arms(kind):
        bare = _bare(arm)
        if isinstance(value, dict) and _is_struct(bare):
            return bare
        if isinstance(value, list) and typing.get_origin(bare) in {list, tuple}:
            return bare
    return kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def query_reader(kind: type[msgspec.Struct]) -> Callable[[MultiMapping[str]], Any]:
    """Read query parameters as the Struct; each is checked alone, so all faults are named.

    A space is read as "+": nothing that a query takes holds a space, and versions, times and
    addresses with a bare "+" arrive as one.
    """
    fields = msgspec.structs.fields(kind)
    parameters = {field.encode_name: _parameter_reader(field.type) for field in fields}
    required = {field.encode_name for field in fields if field.required}

    def read(query: MultiMapping[str]) -> Any:
        values, faults = _read_parameters(query, parameters)
        faults += [Fault("is missing", parameter=name) for name in required - query.keys()]
        if faults:
            raise _invalid(faults[:FAULTS_MAX])
        return msgspec.convert(values, kind)

    return read


def _read_parameters(
    query: MultiMapping[str], parameters: Mapping[str, Callable[[str], Any]]
) -> tuple[dict[str, Any], list[Fault]]:
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, text in query.items():
        if name not in parameters:
            faults.append(Fault("is unknown here", parameter=name))
        elif name in values:
            faults.append(Fault("is given twice", parameter=name))
        else:
            try:
                values[name] = parameters[name](text.replace(" ", "+"))
            except msgspec.ValidationError as error:
                faults.append(Fault(str(error), parameter=name))
    return values, faults


def _parameter_reader(kind: Any) -> Callable[[str], Any]:
    [wanted] = _without_none(kind)

    def read(text: str) -> Any:
        try:
            return msgspec.convert(text, wanted, strict=False)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(_reason(error, wanted)) from None

    return read


def _without_none(kind: Any) -> list[Any]:
    bare = _bare(kind)
    return [arm for arm in _arms(bare) if arm is not types.NoneType] or [kind]


def is_optional(kind: Any) -> bool:
    """Whether no body at all means the same as an empty object."""
    try:
        msgspec.convert({}, kind)
    except msgspec.ValidationError:
        return False
    return True


def takes_arrays(kind: Any) -> bool:
    """Whether the body may be an array."""
    return typing.get_origin(_arm(_bare(kind), [])) is list


def described(faults: Iterable[Fault]) -> str:
    return "; ".join(f"{fault.pointer or '/'}: {fault.reason}" for fault in faults)
