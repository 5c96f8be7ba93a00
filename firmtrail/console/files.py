"""Serves the static files of the pages, under addresses that change with their content.

The address of a file contains a digest of all files, so a browser may keep it for ever, and a
script that imports another one gets the script of the same version. The same file under another
digest, which a server of another version made, must not be kept.
"""

import functools
import mimetypes
import zlib
from collections.abc import Iterator
from hashlib import blake2b
from http import HTTPMethod
from importlib import resources
from importlib.resources.abc import Traversable
from typing import NamedTuple

from aiohttp import web

from firmtrail.http.call import AnyCall
from firmtrail.http.callers import PUBLIC
from firmtrail.http.errors import NotFound
from firmtrail.http.respond import accepts_gzip, client_has
from firmtrail.http.route import Route

PATH = "/console/-/{digest}/{file}"
"""No project is called "-"."""

SERVED = (".css", ".js", ".svg", ".png", ".woff2")

YEAR = {"Cache-Control": "public, max-age=31536000, immutable"}
NOT_KEPT = {"Cache-Control": "no-store"}


class StaticFile(NamedTuple):
    media: str
    content: bytes
    compressed: bytes


def path_of(name: str) -> str:
    """Returns the path of the file of this name. Raises `KeyError` if there is none."""
    _ = all_files()[name]
    return PATH.format(digest=digest(), file=name)


@functools.cache
def all_files() -> dict[str, StaticFile]:
    """Returns all files by name; a folder holds what others made, and is not part of the name."""
    found = sorted(_files(resources.files("firmtrail.console") / "static"))
    return {name: _static_file(name, content) for name, content in found}


@functools.cache
def digest() -> str:
    """Returns a digest of all files."""
    hashed = blake2b(digest_size=8)
    for name, file in all_files().items():
        hashed.update(f"{name} {len(file.content)}\n".encode() + file.content)
    return hashed.hexdigest()


def _files(folder: Traversable) -> Iterator[tuple[str, bytes]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _files(each)
        elif each.name.endswith(SERVED):
            yield each.name, each.read_bytes()


def _static_file(name: str, content: bytes) -> StaticFile:
    media = mimetypes.types_map[name[name.rindex(".") :]]
    return StaticFile(media, content, zlib.compress(content, level=9, wbits=zlib.MAX_WBITS | 16))


async def get_file(call: AnyCall) -> web.Response:
    """Return a static file of the pages."""
    found = all_files().get(call.path("file"))
    if found is None:
        raise NotFound("There is no such file.")
    is_compressed = accepts_gzip(call.request)
    etag = f"{digest()}-gzip" if is_compressed else digest()
    kept = YEAR if call.path("digest") == digest() else NOT_KEPT
    headers = {"ETag": f'"{etag}"', "Vary": "Accept-Encoding", **kept}
    if client_has(call.request, etag):
        return web.Response(status=304, headers=headers)
    if is_compressed:
        headers["Content-Encoding"] = "gzip"
    body = found.compressed if is_compressed else found.content
    charset = "utf-8" if found.media.startswith("text/") else None
    return web.Response(body=body, content_type=found.media, charset=charset, headers=headers)


ROUTES = (
    Route(
        method=HTTPMethod.GET,
        path=PATH,
        handler=get_file,
        access=PUBLIC,
        summary="Return a static file of the pages.",
        answers={200: "text/css", 304: None},
        refusals={404},
    ),
)
