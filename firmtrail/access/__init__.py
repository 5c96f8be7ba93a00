"""Access: projects, people, tokens and device secrets, in tables that change.

What changed is in the log; secrets and e-mail addresses never are. One file answers one question;
this is the front door for what commands on devices need.
"""

from firmtrail.access.credentials import new_secret
from firmtrail.access.device_secrets import NewSecret, insert_secrets, revoke_secrets, seal
from firmtrail.access.hashing import Hasher, TooManyAttempts
from firmtrail.access.lookup import Access

__all__ = [
    "Access",
    "Hasher",
    "NewSecret",
    "TooManyAttempts",
    "insert_secrets",
    "new_secret",
    "revoke_secrets",
    "seal",
]
