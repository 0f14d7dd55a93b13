"""The file store: uploads in parts, files that expire, a quota, and URLs that lead back."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamapp.errors import InvalidInput, NotFound, StorageFull
from streamapp.files import FileStore, Stored
from streamapp.media import File
from streamapp.settings import Settings


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    files = FileStore(Settings(files_dir=tmp_path / "files", file_ttl_s=60, max_files_bytes=100))
    yield files
    files.close()


def send(store: FileStore, stored: Stored, number: int, data: bytes) -> str:
    with store.open_part(stored.id, stored.key, number) as part:
        part.write(data)
    return store.end_part(stored, number)


def test_a_file_is_read_back_by_its_url_whatever_the_host(store: FileStore) -> None:
    stored = store.put(b"abc", "text/plain", "a b.txt")
    assert stored.url_path == f"/files/{stored.id}/a_b.txt"
    assert store.read("https://elsewhere" + stored.url_path) == File(b"abc", "text/plain", "a_b.txt")


@pytest.mark.parametrize("url", ["http://x/files/" + "0" * 32, "http://x/files/short/name", "http://x/", "data:,x"])
def test_other_urls_are_not_the_stores(store: FileStore, url: str) -> None:
    assert store.read(url) is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "/", "..", "", "a" * 500, "\x00\n"])
def test_a_name_is_no_path(store: FileStore, tmp_path: Path, name: str) -> None:
    stored = store.put(b"", "", name)
    assert stored.path.parent == tmp_path / "files"
    assert 0 < len(stored.name) <= 100
    assert "/" not in stored.name and not stored.name.startswith(".")


def test_an_upload_is_the_parts_in_order_whichever_came_first(store: FileStore) -> None:
    stored = store.begin("video/mp4", "a.mp4")
    send(store, stored, 2, b"second")
    first = send(store, stored, 1, b"?")
    assert send(store, stored, 1, b"first ") != first  # a part that is sent again replaces the former
    store.complete(stored.id, stored.key, [2, 1])
    assert store.get(stored.id).path.read_bytes() == b"first second"
    assert [path.name for path in stored.path.parent.iterdir()] == [stored.id]


def test_an_upload_is_nothing_to_read_before_it_is_complete(store: FileStore) -> None:
    stored = store.begin("", "")
    with pytest.raises(NotFound, match="no file"):
        store.get(stored.id)


@pytest.mark.parametrize("numbers", [[], [1], [1, 2, 3]])
def test_an_upload_is_completed_with_the_parts_that_came(store: FileStore, numbers: list[int]) -> None:
    stored = store.begin("", "")
    for number in (1, 2):
        send(store, stored, number, b"x")
    with pytest.raises(InvalidInput, match=r"has the parts \[1, 2\], got"):
        store.complete(stored.id, stored.key, numbers)


@pytest.mark.parametrize("number", [0, -1, 10_001])
def test_a_part_has_a_number_in_range(store: FileStore, number: int) -> None:
    stored = store.begin("", "")
    with pytest.raises(InvalidInput, match="a part's number is 1 to 10000"):
        store.open_part(stored.id, stored.key, number)


@pytest.mark.parametrize("key", ["", "0" * 32, "ä"])
def test_only_who_began_an_upload_writes_it(store: FileStore, key: str) -> None:
    stored = store.begin("", "")
    with pytest.raises(NotFound, match="no such upload"):
        store.open_part(stored.id, key, 1)


def test_a_complete_file_is_not_written_again(store: FileStore) -> None:
    stored = store.put(b"abc", "", "")
    with pytest.raises(NotFound, match="no such upload"):
        store.open_part(stored.id, "", 1)


def test_files_expire_at_the_latest_after_the_settings_time(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = (store.begin("", "", ttl_s=seconds) for seconds in (10, 1000))
    for stored in (short, long):
        send(store, stored, 1, b"x")
        store.complete(stored.id, stored.key, [1])
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 30)
    with pytest.raises(NotFound):
        store.get(short.id)
    assert store.get(long.id) is long
    monkeypatch.setattr(time, "time", lambda: now + 61)
    store.expire()
    assert not list(long.path.parent.iterdir())


def test_what_does_not_fit_into_the_quota_is_refused_and_nothing_is_lost(store: FileStore) -> None:
    kept = store.put(b"x" * 90, "", "")
    with pytest.raises(StorageFull, match="quota of 100 bytes"):
        store.put(b"x" * 11, "", "")
    assert store.publish(File(b"x" * 11), base_url="http://here") is None
    assert store.get(kept.id) is kept


def test_a_published_file_has_an_absolute_url(store: FileStore) -> None:
    url = store.publish(File(b"x", "image/png", "x.png"), base_url="http://here:1")
    assert url is not None and url.startswith("http://here:1/files/") and url.endswith("/x.png")


def test_an_upload_that_was_given_up_leaves_nothing(store: FileStore) -> None:
    stored = store.begin("", "")
    send(store, stored, 1, b"x")
    store.discard(stored)
    assert (store.size, list(stored.path.parent.iterdir())) == (0, [])


def test_without_a_folder_of_their_own_the_files_end_with_the_store() -> None:
    files = FileStore(Settings())
    stored = files.put(b"abc", "", "")
    assert stored.path.exists()
    files.close()
    assert not stored.path.parent.exists()
    files.close()  # again is without effect
