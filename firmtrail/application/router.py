"""Finds the route of a request with one regular expression for all paths.

aiohttp's own router tries the patterns of all paths with the same literal beginning one after
another, and nearly every path here begins with `/api/v1/projects/{project}`. This expression is a
tree of the parts of all paths. A literal part wins over a parameter, and a parameter of one part
over one that takes all further parts.

A path is written as for aiohttp: `{name}` is a part, or the beginning of the last part, and
`{name:PATTERN}` takes all parts from there on.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple, override

from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import MatchInfoError

_PARAMETER = re.compile(r"\{(\w+)(?::(.+))?\}(.*)")
_ONE_PART = "[^{}/]+"


type _Names = Sequence[tuple[str, int]]
"""Parameters, each with the number of the group that holds its text."""


class _Path(NamedTuple):
    """Holds a path, divided into its parts."""

    parts: Sequence[str]
    resource: web.AbstractResource


class _End(NamedTuple):
    """Holds what a path leads to."""

    names: _Names
    routes: Mapping[str, web.AbstractRoute]
    """The routes by method; that of "*" takes all other methods."""


class Router(web.UrlDispatcher):
    """Routes requests to resources. Each of them needs a route for the method "*"."""

    def __init__(self) -> None:
        super().__init__()
        self._tree = _Tree(())

    @override
    def add_resource(self, path: str, *, name: str | None = None) -> web.Resource:
        resource = web.PlainResource(path, name=name)
        self.register_resource(resource)
        return resource

    @override
    def freeze(self) -> None:
        super().freeze()
        self._tree = _Tree(self.resources())

    @override
    async def resolve(self, request: web.Request) -> web.UrlMappingMatchInfo:
        path = request.rel_url.path_safe  # only %2F and %25 are still quoted
        found = self._tree.fullmatch(path)
        if found is None or found.lastindex is None:
            return MatchInfoError(web.HTTPNotFound())
        groups, routes = self._tree.ends[found.lastindex]
        names = {name: found[group] for name, group in groups}
        if "%" in path:
            names = {name: _unquoted(text) for name, text in names.items()}
        route = routes.get(request.method) or routes[hdrs.METH_ANY]
        return web.UrlMappingMatchInfo(names, route)


def _unquoted(text: str) -> str:
    return text.replace("%2F", "/").replace("%25", "%")


class _Tree:
    """Holds the expression of resources. An empty group marks each end: the last that matches."""

    def __init__(self, resources: Iterable[web.AbstractResource]) -> None:
        self.ends: dict[int, _End] = {}
        """The ends by the numbers of their groups."""
        self._groups = 0
        paths = [_Path(each.canonical.split("/"), each) for each in resources]
        expression = self._after(sorted(paths, key=_precedence), 0, ())
        self.fullmatch = re.compile(expression).fullmatch

    def _after(self, paths: Iterable[_Path], at: int, names: _Names) -> str:
        """Returns the expression of the parts from index `at` on; all parts before are the same."""
        ways = []
        for part, paths_of_part in groupby(paths, key=lambda path: path.parts[at]):
            some = [*paths_of_part]
            text, here = self._part(part, names)
            further = [path for path in some if len(path.parts) > at + 1]
            ends = [f"/{self._after(further, at + 1, here)}"] if further else []
            ends += [self._end(path, here) for path in some if len(path.parts) == at + 1]
            ways.append(f"{text}(?:{'|'.join(ends)})")
        return f"(?:{'|'.join(ways)})"

    def _part(self, part: str, names: _Names) -> tuple[str, _Names]:
        """Returns the expression of a part, and the names with its own."""
        parameter = _PARAMETER.fullmatch(part)
        if parameter is None:
            return re.escape(part), names
        name, pattern, ending = parameter.groups()
        return f"({pattern or _ONE_PART}){re.escape(ending)}", (*names, (name, self._group()))

    def _end(self, path: _Path, names: _Names) -> str:
        routes = {route.method: route for route in path.resource}
        self.ends[self._group()] = _End(names, routes)
        return "()"

    def _group(self) -> int:
        self._groups += 1
        return self._groups


def _precedence(path: _Path) -> list[tuple[int, int, str]]:
    return [_rank(part) for part in path.parts]


def _rank(part: str) -> tuple[int, int, str]:
    """Returns a key that sorts literals first, then parameters of one part, the longest ending
    first."""
    parameter = _PARAMETER.fullmatch(part)
    if parameter is None:
        return 0, 0, part
    return (2 if parameter[2] else 1), -len(parameter[3]), part
