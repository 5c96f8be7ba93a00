"""Defines the bodies of hawkBit's protocol: those that clients send, and those that they read.

A client's body may have members that are not declared here; they are ignored.
"""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

type Execution = Literal[
    "closed",
    "proceeding",
    "canceled",
    "scheduled",
    "rejected",
    "resumed",
    "download",
    "downloaded",
]


class ActionResult(msgspec.Struct, frozen=True):
    """Says how far an action came; clients put different members into `progress`."""

    finished: Literal["success", "failure", "none"] = "none"
    progress: dict[str, Any] | None = None


class FeedbackStatus(msgspec.Struct, frozen=True):
    """Says what the device does about an action, with its messages."""

    execution: Execution
    result: ActionResult = ActionResult()
    details: list[Any] | None = None


class Feedback(msgspec.Struct, frozen=True):
    """Reports on an action."""

    status: FeedbackStatus


class ConfigData(msgspec.Struct, frozen=True):
    """Holds the attributes of a device, and how they change the recorded ones."""

    data: dict[str, Any] = {}
    mode: Literal["merge", "replace", "remove"] = "merge"


class InstalledVersion(msgspec.Struct, frozen=True):
    """Names the software that a device runs, and its version."""

    version: str
    name: str | None = None


class Link(msgspec.Struct, frozen=True):
    """Names the address of something."""

    href: str


class Polling(msgspec.Struct, frozen=True):
    """Says after how long to poll again, as HH:MM:SS."""

    sleep: str


class PollingConfig(msgspec.Struct, frozen=True):
    """Holds the settings of a client."""

    polling: Polling


class Controller(msgspec.Struct, frozen=True, omit_defaults=True, rename={"links": "_links"}):
    """Answers a poll: when to poll again, and what there is to do."""

    config: PollingConfig
    links: dict[str, Link] | UnsetType = UNSET


class Hashes(msgspec.Struct, frozen=True, omit_defaults=True):
    """Holds the digests of a file. Each client checks another one of them."""

    sha256: str
    sha1: str | UnsetType = UNSET
    md5: str | UnsetType = UNSET


class HawkbitArtifact(msgspec.Struct, frozen=True, rename={"links": "_links"}):
    """Describes a file of an action."""

    filename: str
    hashes: Hashes
    size: int
    links: dict[str, Link]


class Chunk(msgspec.Struct, frozen=True):
    """Describes the software of an action: there is one, with one file."""

    part: str
    version: str
    name: str
    artifacts: list[HawkbitArtifact]


class HawkbitDeployment(msgspec.Struct, frozen=True):
    """Says that the device should load and install."""

    download: Literal["forced"]
    update: Literal["forced"]
    chunks: list[Chunk]


class ActionHistory(msgspec.Struct, frozen=True):
    """Repeats what the device said of an action, the newest message first."""

    status: Literal["RUNNING", "FINISHED"]
    messages: list[str]


class DeploymentBase(
    msgspec.Struct, frozen=True, omit_defaults=True, rename={"action_history": "actionHistory"}
):
    """Describes an action."""

    id: str
    deployment: HawkbitDeployment
    action_history: ActionHistory | UnsetType = UNSET


class StopId(msgspec.Struct, frozen=True, rename="camel"):
    """Names the action to stop."""

    stop_id: str


class Cancellation(msgspec.Struct, frozen=True, rename={"cancel_action": "cancelAction"}):
    """Describes the order to give an action up."""

    id: str
    cancel_action: StopId


class AutoConfirmState(msgspec.Struct, frozen=True):
    """Says whether actions are confirmed without the device."""

    active: bool


class ConfirmationBase(msgspec.Struct, frozen=True, rename={"auto_confirm": "autoConfirm"}):
    """Describes how actions are confirmed."""

    auto_confirm: AutoConfirmState
