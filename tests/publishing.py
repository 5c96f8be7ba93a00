"""Makes publishers for tests; all sign with one key."""

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


def new_publisher(
    db: Database, store: Path, minimum_sizes: MinimumSizes | None = None
) -> Publisher:
    """Returns a server's publisher; `store` is the path of its file of checkpoints."""
    return Publisher(db, minimum_sizes or MinimumSizes(), SIGNER, CheckpointFile(store))


def opened(note: str, name: LogName = ACME) -> checkpoint.Checkpoint:
    """Returns the checkpoint of a note that the tests' key signed."""
    return checkpoint.verify_note(note, SIGNER.verifier(name))
