"""Defines the scalar types of the interface, each with the rule that checks and documents it.

Patterns end in `$(?!\\n)`, because a `$` alone also matches before a final newline. The look-ahead
is valid ECMA-262, so the OpenAPI document uses the same patterns. All are ASCII and exclude NUL,
which Postgres cannot store.
"""

from typing import Annotated

from msgspec import Meta

from firmtrail.eventstore import tiles
from firmtrail.rules import attributes, certificate, version

_END = r"$(?!\n)"
_NAME = rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}{_END}"

TEXT_BYTES_MAX = 4096
"""Limits the bytes of free text."""
SEQ_MAX = 2**53 - 1

PROJECT_PATTERN = rf"^[a-z0-9][a-z0-9-]{{0,62}}{_END}"
TENANT_PATTERN = rf"^[A-Za-z0-9][A-Za-z0-9-]{{0,62}}{_END}"
DEVICE_PATTERN = rf"^[A-Za-z0-9][A-Za-z0-9._:-]{{0,127}}{_END}"
ID_PATTERN = rf"^[A-Za-z0-9_.-]{{1,64}}{_END}"
LOG_NUMBER_PATTERN = rf"^[1-9][0-9]{{0,15}}{_END}"
TILE_LEVEL_PATTERN = rf"^([0-9]|[1-5][0-9]|6[0-3]){_END}"
TILE_PATTERN = rf"^{tiles.PATTERN}{_END}"
NAME_PATTERN = _NAME
DEPLOYMENT_PATTERN = rf"^[A-Za-z0-9_.-]{{1,4096}}{_END}"
SHA256_PATTERN = rf"^[0-9a-f]{{64}}{_END}"
POSITION_PATTERN = rf"^(0|[1-9][0-9]{{0,15}}){_END}"

_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:.]{8,18}([Zz]|[+-][0-9]{2}:[0-9]{2})"

_TYPE = r"(firmtrail\.)?[A-Z][A-Za-z]{0,63}(\.v[1-9][0-9]{0,3})?"

type ProjectName = Annotated[
    str,
    Meta(
        pattern=PROJECT_PATTERN,
        description="a project's name of 1 to 63 lowercase letters, digits and hyphens",
    ),
]
type TenantName = Annotated[
    str,
    Meta(
        pattern=TENANT_PATTERN,
        description="a project's name, or `default`: the project that the credential belongs to; "
        "case does not count",
    ),
]
type DeviceName = Annotated[
    str,
    Meta(
        pattern=DEVICE_PATTERN,
        description="a device's name of 1 to 128 letters, digits and the characters . _ : -",
    ),
]
type DevicePrefix = Annotated[
    str, Meta(pattern=DEVICE_PATTERN, description="the beginning of a device's name")
]
type SearchText = Annotated[
    str,
    Meta(
        pattern=rf"^[^\x00-\x1f\x7f]{{1,128}}{_END}",
        description="1 to 128 characters, the beginning of a name",
    ),
]
type Name = Annotated[
    str,
    Meta(pattern=_NAME, description="a name of 1 to 64 letters, digits and the characters . _ -"),
]
type CertificatePattern = Annotated[
    str,
    Meta(
        pattern=certificate.PATTERN,
        max_length=512,
        description="names that a client certificate must have, separated by commas: CN, O, OU or "
        "serialNumber of its subject, DNS or URI of its alternative names; one of them contains "
        "{device}",
        examples=["O=acme,CN={device}", "DNS={device}.fleet.example.org"],
    ),
]
type ArtifactPattern = Annotated[
    str,
    Meta(
        pattern=rf"^\.?[A-Za-z0-9][A-Za-z0-9._-]{{0,63}}{_END}",
        description="the name of an artifact, or the end of its name, which begins with a dot",
        examples=["firmware.swu", ".swu"],
    ),
]
type Id = Annotated[str, Meta(pattern=ID_PATTERN, description="an id")]
type DeploymentId = Annotated[
    str, Meta(pattern=DEPLOYMENT_PATTERN, description="the ids of rollouts, with dots between them")
]
type LogNumber = Annotated[
    str, Meta(pattern=LOG_NUMBER_PATTERN, description="a log's number in its project, 1 or higher")
]
type TileLevel = Annotated[
    str, Meta(pattern=TILE_LEVEL_PATTERN, description="a level of the tree, 0 to 63")
]
type TilePath = Annotated[
    str,
    Meta(
        pattern=TILE_PATTERN,
        description="a tile's number in groups of three digits, followed by the width of a partial "
        "tile, as in C2SP tlog-tiles; slashes are not escaped",
        examples=["x001/x234/067", "000.p/17"],
    ),
]
type StreamName = Annotated[
    str,
    Meta(
        pattern=rf"^[a-z]+/[A-Za-z0-9._:/-]{{0,140}}{_END}",
        description="the subject of an entry, such as a device; one that ends with a slash stands "
        "for all that begin with it",
        examples=["device/pump-1", "rollout/"],
    ),
]
type ActorName = Annotated[
    str,
    Meta(
        pattern=rf"^(system|(user|token)/[A-Za-z0-9_.-]{{1,64}}){_END}",
        description="the actor of an entry, or of a recorded read",
        examples=["user/u_01"],
    ),
]
type EntryActor = Annotated[
    str,
    Meta(
        pattern=rf"^(system|(device|gateway|user|token)/[A-Za-z0-9._:-]{{1,128}}){_END}",
        description="the actor of an entry",
        examples=["user/u_01", "device/pump-1"],
    ),
]
type TypeNames = Annotated[
    str,
    Meta(
        pattern=rf"^{_TYPE}(,{_TYPE}){{0,63}}{_END}",
        description="names of events, separated by commas; a name without a version stands for all "
        "versions of the event",
        examples=["DeviceRegistered,FirmwareInstalled.v1"],
    ),
]
type Sha256 = Annotated[str, Meta(pattern=SHA256_PATTERN, description="a SHA-256 in hex")]
type VersionText = Annotated[
    str,
    Meta(
        max_length=version.CHARACTERS_MAX,
        pattern=version.PATTERN,
        description="a SemVer 2.0.0 version of at most 64 characters, such as 1.4.0",
        examples=["1.4.0"],
    ),
]
type VisibleText = Annotated[
    str, Meta(pattern=rf"^[!-~]{{1,64}}{_END}", description="1 to 64 visible ASCII characters")
]
type Secret = Annotated[
    str,
    Meta(
        pattern=rf"^(?!ft[st]_(?![A-Za-z0-9_-]{{43}}{_END}))[!-~]{{1,200}}{_END}",
        description="1 to 200 visible ASCII characters; one that begins with fts_ or ftt_ has "
        "exactly 43 more characters of base64url, like the secrets that the service makes",
    ),
]
type FreeText = Annotated[
    str, Meta(min_length=1, max_length=TEXT_BYTES_MAX, description="a text of 1 to 4 096 bytes")
]
type AttributeKey = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=attributes.KEY_CHARACTERS_MAX,
        description="the name of an attribute, of 1 to 128 characters",
    ),
]
type AttributeValue = Annotated[str, Meta(max_length=attributes.VALUE_CHARACTERS_MAX)]
type AttributePair = Annotated[
    str,
    Meta(
        pattern=rf"^[^\x00]{{1,128}}:[^\x00]{{0,512}}{_END}",
        description="an attribute as key:value",
        examples=["site:lyon"],
    ),
]
type Seq = Annotated[int, Meta(ge=0, le=SEQ_MAX)]
type Position = Annotated[int, Meta(ge=0, le=SEQ_MAX)]
type Seconds = Annotated[int, Meta(ge=0, le=2**31)]
type Email = Annotated[
    str,
    Meta(
        max_length=254,
        pattern=rf"^[^\s@\x00-\x1f]{{1,64}}@[^\s@\x00-\x1f]{{1,189}}{_END}",
        description="an e-mail address",
    ),
]
type NewEmail = Annotated[
    str,
    Meta(
        max_length=254,
        pattern=rf"^(?![!-/:-@\[-`{{-~])[^\s@\x00-\x1f]{{1,64}}@[^\s@\x00-\x1f]{{1,189}}{_END}",
        description="an e-mail address that begins with a letter or a digit",
    ),
]
"""Restricts the address of a new person; existing people may have other addresses."""
type Password = Annotated[
    str, Meta(min_length=1, max_length=1024, description="1 to 1024 characters")
]

type Time = Annotated[
    str,
    Meta(
        pattern=rf"^{_TIME}{_END}",
        description="an RFC 3339 time with an offset, such as 2026-03-15T02:00:00Z",
        examples=["2026-03-14T09:30:00.000Z"],
        extra_json_schema={"format": "date-time"},
    ),
]
type AsOf = Annotated[
    str,
    Meta(
        pattern=rf"^(@(0|[1-9][0-9]{{0,15}})|{_TIME}){_END}",
        description="@N for the first N events, or an RFC 3339 time with an offset, such as "
        "2026-03-15T02:00:00Z",
        examples=["@8142", "2026-03-14T09:30:00.000Z"],
    ),
]
type Limit = Annotated[int, Meta(ge=1, le=500)]
type Cursor = Annotated[
    str, Meta(description="the unaltered `next` of a page; any other text gets 400")
]


def cut(text: str) -> str:
    """Returns at most `TEXT_BYTES_MAX` bytes of UTF-8, ending with a whole character."""
    encoded = text.encode()
    if len(encoded) <= TEXT_BYTES_MAX:
        return text
    return encoded[:TEXT_BYTES_MAX].decode(errors="ignore")
