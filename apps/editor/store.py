"""Keep documents in a database of a folder: each edit as it came, the old ones of a document merged into one.

What `append` or `replace` has written is on the disk when it returns. A process that is killed meanwhile leaves all of
it or nothing (SQLite's write-ahead log). One process has the folder at a time.
"""

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from streamapp.errors import DefinitionError

_TABLE = (
    "CREATE TABLE IF NOT EXISTS edits (document TEXT, version INTEGER, content BLOB, PRIMARY KEY (document, version))"
)
_INSERT = "INSERT INTO edits VALUES (?, ?, ?)"
_WAIT_S = 1.0  # for another process to end that still has the folder


class Edit(NamedTuple):
    """One edit: the document's version with it, and the update of Yjs."""

    version: int
    content: bytes


class Store:
    """Read and write edits, in any thread; every method blocks.

    Attributes:
        names: of all documents; of one whose first edit is being written, too.

    Raises:
        DefinitionError: another process has the folder, or what is in it is no such database.
        sqlite3.Error: by the methods, where nothing more can be written.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(folder / "documents.sqlite", timeout=_WAIT_S, check_same_thread=False)
        try:
            self.names = self._begin()
        except sqlite3.Error as error:
            self._database.close()
            raise DefinitionError(
                f"STREAMAPP_EDITOR_FOLDER={folder}: {error}; one process at a time has a folder, name another one"
            ) from error

    def _begin(self) -> set[str]:
        for option in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
            self._database.execute(f"PRAGMA {option}")
        with self._database:
            self._database.execute(_TABLE)
        return {name for (name,) in self._database.execute("SELECT DISTINCT document FROM edits")}

    def load(self, name: str) -> list[Edit]:
        """Return the edits of a document, oldest first."""
        with self._lock:
            rows = self._database.execute("SELECT version, content FROM edits WHERE document = ? ORDER BY 1", (name,))
            return [Edit(*row) for row in rows]

    def append(self, name: str, edits: Sequence[Edit]) -> None:
        """Write edits of a document, all or none."""
        with self._lock, self._database:
            self._database.executemany(_INSERT, [(name, *edit) for edit in edits])
            self.names.add(name)

    def replace(self, name: str, whole: Edit) -> None:
        """Write one edit in the place of all that a document has up to its version."""
        with self._lock, self._database:
            self._database.execute("DELETE FROM edits WHERE document = ? AND version <= ?", (name, whole.version))
            self._database.execute(_INSERT, (name, *whole))
            self.names.add(name)

    def close(self) -> None:
        """Give the folder back."""
        with self._lock:
            self._database.close()
