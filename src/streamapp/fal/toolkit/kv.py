"""Keep small strings by key, in a file that all processes on this machine share."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from .exceptions import KVStoreException
from .utils.download_utils import FAL_PERSISTENT_DIR

_DEFAULT_TTL_S = 30 * 24 * 3600
_TABLE = "CREATE TABLE IF NOT EXISTS pairs (db, key, value, expires_at, PRIMARY KEY (db, key)) WITHOUT ROWID"


class KVStore:
    """Keep strings under keys of one name space.

    Args:
        db_name: the name space.
    """

    def __init__(self, db_name: str) -> None:
        self.db_name = db_name

    def get(self, key: str) -> str | None:
        """Return what is kept, or None. Blocks."""
        with self._pairs() as pairs:
            found = pairs.execute(
                "SELECT value FROM pairs WHERE db = ? AND key = ? AND expires_at > ?", (self.db_name, key, time.time())
            ).fetchone()
        return found and str(found[0])

    def set(self, key: str, value: str, ttl: int | None = None) -> None:
        """Keep a value for `ttl` seconds, 30 days when None. Blocks."""
        now = time.time()
        with self._pairs() as pairs:
            pairs.execute("DELETE FROM pairs WHERE expires_at <= ?", (now,))
            pairs.execute(
                "REPLACE INTO pairs VALUES (?, ?, ?, ?)", (self.db_name, key, value, now + (ttl or _DEFAULT_TTL_S))
            )

    def delete(self, key: str) -> None:
        """Let go of a key, whether it is there or not. Blocks."""
        with self._pairs() as pairs:
            pairs.execute("DELETE FROM pairs WHERE db = ? AND key = ?", (self.db_name, key))

    @contextmanager
    def _pairs(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction; a connection would belong to one thread."""
        folder = Path(FAL_PERSISTENT_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(folder / "kv.sqlite3")) as connection, connection:
                connection.execute(_TABLE)
                yield connection
        except sqlite3.Error as error:
            raise KVStoreException(f"the key-value store in {folder} failed: {error}") from error
