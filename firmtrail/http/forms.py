"""Reads the fields of a page's form (URL Standard, 5.1) as the type that a route takes.

An empty field counts as absent, because a browser sends every field that a form has. A member that
is a list takes each field of its name, as a form with several checkboxes sends them. One answer
names the faults of all fields. Line breaks of a text arrive as CR LF, and are read as LF.
"""

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, get_origin
from urllib.parse import parse_qsl

import msgspec
from aiohttp import hdrs, web
from multidict import MultiDict, MultiMapping

from firmtrail.http import parameters
from firmtrail.http.call import AnyCall
from firmtrail.http.errors import BadRequest, Fault, TooLarge, UnsupportedMediaType
from firmtrail.http.incoming import read_bytes
from firmtrail.http.parameters import converter, parameter_reader
from firmtrail.http.validate import invalid

FORM = "application/x-www-form-urlencoded"

FIELDS_MAX = 1_000
"""Limits the fields of one form."""


def form_taker(kind: type[msgspec.Struct]) -> Callable[[AnyCall], Awaitable[None]]:
    """Returns the function that sets a call's body from its form."""
    read = form_reader(kind)

    async def take_form(call: AnyCall) -> None:
        _check_media_type(call.request)
        call.body = read(await read_bytes(call.request, takes_arrays=False))

    return take_form


def query_reader(
    kind: type[msgspec.Struct], *, takes_any: bool = False
) -> Callable[[MultiMapping[str]], Any]:
    """Returns a reader of the query of a page's address, which may come from a form. With
    `takes_any`, parameters that `kind` does not name are ignored."""
    read = parameters.query_reader(kind, takes_any=takes_any)

    def read_given(query: MultiMapping[str]) -> Any:
        return read(MultiDict((name, text) for name, text in query.items() if text))

    return read_given


@functools.cache
def form_reader(kind: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    """Returns a reader of a form's bytes as `kind`. It raises `BadRequest`, `TooLarge`, or
    `Invalid` with all faults."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    readers = {name: _field_reader(field.type) for name, field in fields.items()}

    def read(body: bytes) -> Any:
        values, faults = _read_fields(_fields(body), readers)
        faults += [
            Fault("is missing", parameter=name)
            for name, field in fields.items()
            if field.required and name not in values and name not in _names(faults)
        ]
        if faults:
            raise invalid(faults)
        return msgspec.convert(values, kind)

    return read


def _names(faults: list[Fault]) -> set[Any]:
    return {fault.parameter for fault in faults}


def _check_media_type(request: web.Request) -> None:
    declared = request.headers.get(hdrs.CONTENT_TYPE, FORM)
    if declared.partition(";")[0].strip().lower() != FORM:
        raise UnsupportedMediaType(f"The Content-Type must be {FORM}.")


def _fields(body: bytes) -> dict[str, list[str]]:
    """Returns the texts of each field that is not empty."""
    try:
        pairs = parse_qsl(body.decode(), errors="strict", max_num_fields=FIELDS_MAX)
    except UnicodeDecodeError:
        raise BadRequest("The form is not UTF-8.") from None
    except ValueError:
        raise TooLarge(f"A form has at most {FIELDS_MAX} fields.") from None
    found: dict[str, list[str]] = {}
    for name, text in pairs:
        found.setdefault(name, []).append(text.replace("\r\n", "\n"))
    return found


def _read_fields(
    given: Mapping[str, list[str]], readers: Mapping[str, Callable[[list[str]], Any]]
) -> tuple[dict[str, Any], list[Fault]]:
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for name, texts in given.items():
        if name not in readers:
            faults.append(Fault("is unknown here", parameter=name))
        elif any("\0" in text for text in texts):
            faults.append(Fault("contains the character U+0000", parameter=name))
        else:
            try:
                values[name] = readers[name](texts)
            except msgspec.ValidationError as error:
                faults.append(Fault(str(error), parameter=name))
    return values, faults


def _field_reader(kind: Any) -> Callable[[list[str]], Any]:
    if get_origin(kind) is list:
        return converter(kind)
    read_one = parameter_reader(kind)

    def read(texts: list[str]) -> Any:
        if len(texts) > 1:
            raise msgspec.ValidationError("is given twice")
        return read_one(texts[0])

    return read
