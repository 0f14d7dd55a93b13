"""A store of jobs that keeps plain data in memory: what other stores are compared with."""

import pickle
from collections.abc import Sequence
from dataclasses import replace

from streamapp.jobs.events import Event
from streamapp.jobs.job import Status
from streamapp.jobs.store import JobRecord

_OVER: tuple[Status, ...] = ("succeeded", "failed", "cancelled")


class MemoryStore:
    """Keep pickles, so that nothing in here is shared with a job that runs."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.logs: dict[str, dict[int, bytes]] = {}
        self.is_closed = False

    async def add(self, record: JobRecord) -> JobRecord:
        for kept in map(self._read, self.records.values()):
            wanted, known = record.request, kept.request
            if known.key and (wanted.caller, wanted.key and wanted.key.key) == (known.caller, known.key.key):
                if kept.status != "cancelled" and not kept.has_own_answer:
                    return kept
        self.records[record.request.id] = pickle.dumps(record)
        self.logs[record.request.id] = {}
        return record

    async def append(self, job_id: str, events: Sequence[Event]) -> None:
        self.logs[job_id] |= {event.n: pickle.dumps(event) for event in events}

    async def update(self, record: JobRecord) -> None:
        kept = self._read(self.records[record.request.id])
        self.records[record.request.id] = pickle.dumps(replace(record, request=kept.request))

    async def delete(self, job_id: str) -> None:
        self.records.pop(job_id, None)
        self.logs.pop(job_id, None)

    async def load(self, job_id: str) -> JobRecord | None:
        record = self.records.get(job_id)
        return None if record is None else self._read(record)

    async def events(self, job_id: str, *, after: int = 0, limit: int = 1000) -> Sequence[Event]:
        log = self.logs.get(job_id, {})
        return [pickle.loads(log[n]) for n in sorted(log) if n > after][:limit]

    async def unfinished(self) -> Sequence[JobRecord]:
        return [record for record in map(self._read, self.records.values()) if record.status not in _OVER]

    async def expire(self, before: float) -> None:
        for record in list(map(self._read, self.records.values())):
            if record.finished_at is not None and record.finished_at < before:
                await self.delete(record.request.id)

    async def close(self) -> None:
        self.is_closed = True

    @staticmethod
    def _read(pickled: bytes) -> JobRecord:
        record: JobRecord = pickle.loads(pickled)
        return record
