"""Write the edits of one document, behind those who make them: what came while others were written goes at once."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable

from streamapp.errors import Unavailable

from .store import Edit, Store

logger = logging.getLogger("streamapp.editor")

_MOST_EDITS = 500  # that are kept one by one, before they are merged into one


class Journal:
    """Write a document's edits; on the event loop, the store's work in threads.

    Args:
        whole: returns all edits as one, to be written in the place of many.
        on_lost: is called when edits could not be written.

    Attributes:
        version: the newest edit's.
        is_lost: edits could not be written, and nothing is written any more.
    """

    def __init__(
        self, name: str, store: Store, version: int, *, whole: Callable[[], bytes], on_lost: Callable[[], None]
    ) -> None:
        self.version = self._on_disk = version
        self._name, self._store = name, store
        self._whole, self._on_lost = whole, on_lost
        self._count = 0
        self._unwritten: list[Edit] = []
        self._news = asyncio.Condition()
        self._writing: asyncio.Task[None] | None = None
        self.is_lost = False

    def append(self, content: bytes) -> None:
        """Count an edit, and have it written."""
        self.version += 1
        self._store.names.add(self._name)  # from now on it is one of those that are counted
        self._unwritten.append(Edit(self.version, content))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    def begin_anew(self) -> None:
        """Have the next edit written as one with all before it: these have changed."""
        self._count = _MOST_EDITS

    async def _write(self) -> None:
        try:
            while self._unwritten and not self.is_lost:
                edits, self._unwritten = self._unwritten, []
                self._count += len(edits)
                if self._count > _MOST_EDITS:
                    await self._write_whole()
                else:
                    await asyncio.to_thread(self._store.append, self._name, edits)
                await self._note(edits[-1].version)
        except sqlite3.Error as error:
            logger.error("document %s could not be written: %s", self._name, error)
            self.is_lost = True
            await self._note(self._on_disk)
            self._on_lost()

    async def _write_whole(self) -> None:
        self._count = 1
        await asyncio.to_thread(self._store.replace, self._name, Edit(self.version, self._whole()))

    async def _note(self, version: int) -> None:
        async with self._news:
            self._on_disk = version
            self._news.notify_all()

    async def written(self) -> None:
        """Wait until all edits up to now are on the disk.

        Raises:
            Unavailable: they could not be written.
        """
        version = self.version
        async with self._news:
            await self._news.wait_for(lambda: self._on_disk >= version or self.is_lost)
        if self._on_disk < version:
            raise Unavailable("The edits could not be written")

    async def close(self) -> None:
        """Write what is left, and merge it with what was there."""
        if not self._count and not self._unwritten:
            return
        try:
            await self.written()
            await self._write_whole()
        except (Unavailable, sqlite3.Error) as error:
            logger.error("document %s could not be merged: %s", self._name, error)
