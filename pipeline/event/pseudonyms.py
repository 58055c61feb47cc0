"""User ids that cannot be read back: what is counted and kept in place of them."""

from __future__ import annotations

import hmac


def pseudonym(secret: str, user_id: str) -> str:
    """The HMAC-SHA256 of the id in hexadecimal; the id itself when `secret` is empty.

    The same secret and id give the same pseudonym always, so a user's events still count as one
    user's. With another secret every user is a new one.
    """
    if not secret:
        return user_id
    return hmac.digest(secret.encode(), user_id.encode(errors="surrogatepass"), "sha256").hex()
