"""Make and read tokens: each opens the sockets of some apps for a short time, to pages, which cannot keep the key.

A token is a JSON Web Token, signed by HMAC-SHA256 with a secret that is made of the API key: processes with the same
key take each other's, also after a restart, and nothing is kept of any. It is no key: by HTTP it opens nothing. Without
a key no socket asks for one, and the secret is random.

Source: https://www.rfc-editor.org/rfc/rfc7519.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from starlette.types import ASGIApp

#: how long a token may be good
MAX_TOKEN_S = 3600


class Token(NamedTuple):
    """Hold what a token says.

    Attributes:
        apps: the names of those whose sockets it opens.
        expires_at: seconds since 1970.
        caller: whose sessions these are.
    """

    apps: Collection[str]
    expires_at: int
    caller: str

    @property
    def has_expired(self) -> bool:
        """Say whether its time is over."""
        return time.time() >= self.expires_at


class Tokens:
    """Make tokens, and read those that were made with the same key.

    Args:
        key: the deployment's; None where there is none.
    """

    def __init__(self, key: str | None) -> None:
        self._key = secrets.token_urlsafe() if key is None else key

    @cached_property
    def _secret(self) -> bytes:
        # Slowly, once: who has a token can try keys on it, and nobody says that a key is long. 16 MiB, 40 ms.
        return hashlib.scrypt(self._key.encode(), salt=b"streamapp tokens", n=2**14, r=8, p=1, dklen=32)

    def make(self, apps: Collection[str], *, lasts_s: float, caller: str = "") -> str:
        """Return a token that opens the sockets of some apps for some seconds."""
        claims = {"apps": [*apps], "exp": int(time.time() + lasts_s), "sub": caller}
        signed = b".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        return (signed + b"." + self._signature(signed)).decode()

    def read(self, token: bytes) -> Token | None:
        """Return what a token says, also one that has expired; None where it was not made with this key."""
        signed, _, signature = token.rpartition(b".")
        if not hmac.compare_digest(signature, self._signature(signed)):
            return None
        claims = json.loads(base64.urlsafe_b64decode(signed.partition(b".")[2] + b"=="))
        return Token(claims["apps"], claims["exp"], claims["sub"])

    def _signature(self, signed: bytes) -> bytes:
        return _encoded(hmac.digest(self._secret, signed, "sha256"))


def _encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTokens:
    """Say how a protocol's clients show a token, instead of the key, when they open a socket.

    Attributes:
        field: the query's that has it; its value is in no log.
        app_at: return the name of the app whose sockets are at a path, None where tokens open nothing.
        answer_expired: answers for a token that was good before, where the client would else show it for ever.
    """

    field: str
    app_at: Callable[[str], str | None]
    answer_expired: ASGIApp
