"""Finds the route of a request with one regular expression for all paths.

aiohttp's own router tries the patterns of all paths with the same literal beginning one after
another, and nearly every path here begins with `/api/v1/projects/{project}`. This expression is a
tree of the parts of all paths. A literal part wins over a parameter, and a parameter of one part
over one that takes all further parts.

A path is written as for aiohttp: `{name}` is a part, or the beginning of the last part, and
`{name:PATTERN}` takes all parts from there on.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple, override

from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import MatchInfoError

_PARAMETER = re.compile(r"\{(\w+)(?::(.+))?\}(.*)")
_ONE_PART = "[^{}/]+"


type _Names = Sequence[tuple[str, int]]
"""Parameters, each with the number of the group that holds its text."""


type Fill = Callable[[web.Resource], object]
"""Adds the routes of a resource. One of them is for the method "*"."""


class _Path(NamedTuple):
    """Holds a path, divided into its parts."""

    parts: Sequence[str]
    path: str


class _End(NamedTuple):
    """Holds the path that ends at a group of the expression."""

    names: _Names
    path: str


class Router(web.UrlDispatcher):
    """Routes requests to resources by their paths. The first request of a path fills its resource:
    a command of the command line builds an application and asks one or two of its hundreds of
    paths."""

    def __init__(self, resources: Mapping[str, Fill]) -> None:
        super().__init__()
        self._fills = resources
        self._tree = _tree(tuple(resources))
        self._routes: dict[str, Mapping[str, web.AbstractRoute]] = {}
        """The routes of a path by method; that of "*" takes all other methods."""

    @override
    async def resolve(self, request: web.Request) -> web.UrlMappingMatchInfo:
        path = request.rel_url.path_safe  # only %2F and %25 are still quoted
        found = self._tree.fullmatch(path)
        if found is None or found.lastindex is None:
            return MatchInfoError(web.HTTPNotFound())
        end = self._tree.ends[found.lastindex]
        names = {name: found[group] for name, group in end.names}
        if "%" in path:
            names = {name: _unquoted(text) for name, text in names.items()}
        routes = self._routes.get(end.path) or self._filled(end.path)
        route = routes.get(request.method) or routes[hdrs.METH_ANY]
        return web.UrlMappingMatchInfo(names, route)

    def _filled(self, path: str) -> Mapping[str, web.AbstractRoute]:
        resource = web.PlainResource(path)
        self._fills[path](resource)
        routes = self._routes[path] = {route.method: route for route in resource}
        return routes


def _unquoted(text: str) -> str:
    return text.replace("%2F", "/").replace("%25", "%")


class _Tree:
    """Holds the expression of paths. An empty group marks each end: the last that matches."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.ends: dict[int, _End] = {}
        """The ends by the numbers of their groups."""
        self._groups = 0
        divided = [_Path(each.split("/"), each) for each in paths]
        expression = self._after(sorted(divided, key=_precedence), 0, ())
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
        self.ends[self._group()] = _End(names, path.path)
        return "()"

    def _group(self) -> int:
        self._groups += 1
        return self._groups


_tree = functools.cache(_Tree)


def _precedence(path: _Path) -> list[tuple[int, int, str]]:
    return [_rank(part) for part in path.parts]


def _rank(part: str) -> tuple[int, int, str]:
    """Returns a key that sorts literals first, then parameters of one part, the longest ending
    first."""
    parameter = _PARAMETER.fullmatch(part)
    if parameter is None:
        return 0, 0, part
    return (2 if parameter[2] else 1), -len(parameter[3]), part
