"""Reads the parameters of a query as the Struct that a route takes, or names all their faults."""

import functools
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from multidict import MultiDict, MultiMapping

from firmtrail.http.errors import FAULTS_MAX, Fault
from firmtrail.http.faults import alternatives, bare_type, reason_of
from firmtrail.http.validate import invalid

REPEATS_MAX = 10
"""Limits how often a parameter may be given that takes several values."""


@functools.cache
def query_reader(
    kind: type[msgspec.Struct], *, takes_any: bool = False
) -> Callable[[MultiMapping[str]], Any]:
    """Returns a reader of query parameters, which names the faults of all of them. It reads a space
    as "+": an unescaped "+" arrives as a space, and no parameter may contain one. With `takes_any`,
    parameters that `kind` does not name are ignored."""
    fields = msgspec.structs.fields(kind)
    parameters = {field.encode_name: _Parameter(field.type) for field in fields}
    required = [field.encode_name for field in fields if field.required]

    def read(query: MultiMapping[str]) -> Any:
        known = _only(query, parameters) if takes_any else query
        values, faults = _read_parameters(known, parameters)
        missing = [name for name in required if name not in query]
        faults += [Fault("is missing", parameter=name) for name in missing]
        if faults:
            raise invalid(faults[:FAULTS_MAX])
        return msgspec.convert(values, kind)

    return read


def _only(query: MultiMapping[str], names: Collection[str]) -> MultiMapping[str]:
    return MultiDict((name, text) for name, text in query.items() if name in names)


def _read_parameters(
    query: MultiMapping[str], parameters: Mapping[str, "_Parameter"]
) -> tuple[dict[str, Any], list[Fault]]:
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for name in dict.fromkeys(query):
        texts = query.getall(name)
        if name not in parameters:
            faults += [Fault("is unknown here", parameter=name)] * len(texts)
            continue
        try:
            values[name] = parameters[name].read(texts)
        except msgspec.ValidationError as error:
            faults.append(Fault(str(error), parameter=name))
    return values, faults


class _Parameter:
    """Reads the texts of one parameter; a tuple takes several."""

    def __init__(self, kind: Any) -> None:
        takes_several = typing.get_origin(bare_type(kind)) is tuple
        self._most = REPEATS_MAX if takes_several else 1
        self._value = parameter_reader(
            typing.get_args(bare_type(kind))[0] if takes_several else kind
        )

    def read(self, texts: Sequence[str]) -> Any:
        """Returns the value. Raises `ValidationError` with the reason of a fault."""
        if len(texts) > self._most:
            how_often = "twice" if self._most == 1 else f"more than {self._most} times"
            raise msgspec.ValidationError(f"is given {how_often}")
        if self._most > 1:
            return [self._value(text) for text in texts]
        return self._value(texts[0].replace(" ", "+"))


def parameter_reader(kind: Any) -> Callable[[str], Any]:
    """Returns a reader of one text as `kind`; it raises `msgspec.ValidationError` with a reason."""
    kinds = alternatives(bare_type(kind)) or (kind,)
    [value_kind] = (each for each in kinds if each is not types.NoneType)
    return converter(value_kind)


def converter(kind: Any) -> Callable[[Any], Any]:
    """Returns a function that converts a text, or several, to `kind`; it raises
    `msgspec.ValidationError` with a reason."""

    def read(texts: Any) -> Any:
        try:
            return msgspec.convert(texts, kind, strict=False)
        except msgspec.ValidationError as error:
            raise msgspec.ValidationError(reason_of(error, kind)) from None

    return read
