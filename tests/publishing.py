"""Publishers for tests, which all sign with one key."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from firmtrail.database.database import Database
from firmtrail.publishing import checkpoint
from firmtrail.publishing.minimum_sizes import LogName, MinimumSizes
from firmtrail.publishing.published_file import CheckpointFile
from firmtrail.publishing.publisher import Publisher
from firmtrail.publishing.signer import Signer
from tests.databases import INSTANCE

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = Signer(INSTANCE, KEY)
ACME = LogName("acme", 1)


def new_publisher(db: Database, store: Path, known: MinimumSizes | None = None) -> Publisher:
    """A server's publisher; `store` is the file outside the database."""
    return Publisher(db, known or MinimumSizes(), SIGNER, CheckpointFile(store))


def opened(note: str, name: LogName = ACME) -> checkpoint.Checkpoint:
    """The checkpoint of a note that the test's key signed."""
    return checkpoint.verify_note(note, SIGNER.verifier(name))
