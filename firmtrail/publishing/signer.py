"""Signs the heads of all logs of an installation with its one key."""

from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmtrail.eventstore.proofs import TreeHead
from firmtrail.publishing import checkpoint
from firmtrail.publishing.checkpoint import Checkpoint
from firmtrail.publishing.minimum_sizes import LogName
from firmtrail.publishing.published import SignedCheckpoint


class Signer(NamedTuple):
    """Signs with the key of an installation."""

    instance: str
    key: Ed25519PrivateKey

    def origin(self, name: LogName) -> str:
        return checkpoint.origin(self.instance, *name)

    def verifier(self, name: LogName) -> checkpoint.Verifier:
        return checkpoint.verifier(self.origin(name), self.key.public_key())

    def sign(self, name: LogName, head: TreeHead) -> SignedCheckpoint:
        """Returns the checkpoint of this head; the caller has proved that it is the log's."""
        signed = Checkpoint(self.origin(name), *head)
        return SignedCheckpoint(signed, checkpoint.sign(signed, self.key))

    def name(self, origin: str) -> LogName | None:
        """Returns the log of an origin; None for a log of another installation."""
        project, _, number = origin.removeprefix(f"{self.instance}/").rpartition("/")
        found = LogName(project, int(number)) if number.isdecimal() else LogName("", 0)
        return found if self.origin(found) == origin and "/" not in project else None
