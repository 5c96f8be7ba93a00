"""Makes Mender artifacts: files that name themselves and the type of device that they are for."""

import gzip
import io
import tarfile
from collections.abc import Mapping
from hashlib import sha256

import msgspec

_VERSION = msgspec.json.encode({"format": "mender", "version": 3})
_TYPE = "module-image"


def image(name: str, device_type: str, data: bytes) -> bytes:
    """Returns an artifact of this name, with one file for devices of this type."""
    header_info = {
        "payloads": [{"type": _TYPE}],
        "artifact_provides": {"artifact_name": name},
        "artifact_depends": {"device_type": [device_type]},
    }
    header = _tar(
        {
            "header-info": msgspec.json.encode(header_info),
            "headers/0000/type-info": msgspec.json.encode({"type": _TYPE}),
        }
    )
    packed = gzip.compress(header, mtime=0)
    payload = gzip.compress(_tar({"image": data}), mtime=0)
    hashed = {"data/0000/image": data, "header.tar.gz": packed, "version": _VERSION}
    return _tar(
        {
            "version": _VERSION,
            "manifest": _manifest(hashed),
            "header.tar.gz": packed,
            "data/0000.tar.gz": payload,
        }
    )


def _manifest(files: Mapping[str, bytes]) -> bytes:
    lines = (f"{sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
    return "".join(lines).encode()


def _tar(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()
