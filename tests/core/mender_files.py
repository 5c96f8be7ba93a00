"""Makes artifacts of Mender for tests."""

import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from typing import Any

import msgspec

INFO: dict[str, Any] = {
    "payloads": [{"type": "rootfs-image"}],
    "artifact_provides": {"artifact_name": "release-1"},
    "artifact_depends": {"device_type": ["beaglebone", "pump"]},
}


def tar(*members: tuple[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def artifact(info: Any = INFO, coding: str = ".gz", first: str = "version") -> bytes:
    packs: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress}
    files = tar(("header-info", msgspec.json.encode(info)), ("scripts/x", b"#!" * 5000))
    header = packs.get(coding, bytes)(files)
    return tar(
        (first, b'{"format":"mender","version":3}'),
        ("manifest", b"00  data/0000/x\n"),
        (f"header.tar{coding}", header),
        ("data/0000.tar.gz", bytes(2000)),
    )
