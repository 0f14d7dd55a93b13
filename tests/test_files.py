"""The file store: uploads in parts, files that expire, a quota, and URLs that lead back."""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import WAIT_S

from streamapp.errors import InvalidInput, NotFound, StorageFull
from streamapp.media import File
from streamapp.settings import Settings
from streamapp.stores.files import LocalFiles, LocalPart, Stored, TemporaryFolder

FULL = Path("/dev/full")  # it opens, and has no room


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalFiles]:
    files = LocalFiles(Settings(files_dir=tmp_path / "files", file_ttl_s=60, max_files_bytes=100))
    yield files
    files.close()


def send(store: LocalFiles, stored: Stored, number: int, data: bytes) -> str:
    part = store.open_part(stored.id, stored.key, number)
    part.write(data)
    store.end_part(stored, number, part)
    return part.etag


def names(stored: Stored) -> list[str]:
    return [path.name for path in stored.path.parent.iterdir()]


def test_a_file_is_read_back_by_its_url_whatever_the_host(store: LocalFiles) -> None:
    stored = store.put(b"abc", "text/plain", "a b.txt")
    assert stored.url_path == f"/files/{stored.id}/a_b.txt"
    assert store.find("https://elsewhere" + stored.url_path) is stored
    assert (stored.path.read_bytes(), stored.content_type, stored.name) == (b"abc", "text/plain", "a_b.txt")


@pytest.mark.parametrize("url", [f"http://x/files/{'0' * 32}/a", "http://x/files/short/name", "http://x/", "data:,x"])
def test_other_urls_are_not_the_stores(store: LocalFiles, url: str) -> None:
    assert store.find(url) is None


def test_a_long_url_is_looked_at_once(store: LocalFiles) -> None:
    """One of 72 kB took 4.5 s, in which the process did nothing else; twice as much, four times as long."""
    assert store.find("http://a/" * 500_000) is None


@pytest.mark.parametrize("name", ["../../etc/passwd", "/", "..", "", "a" * 500, "\x00\n"])
def test_a_name_is_no_path(store: LocalFiles, tmp_path: Path, name: str) -> None:
    stored = store.put(b"", "", name)
    assert stored.path.parent == tmp_path / "files"
    assert 0 < len(stored.name) <= 100
    assert "/" not in stored.name and not stored.name.startswith(".")


def test_an_upload_is_the_parts_in_order_whichever_came_first(store: LocalFiles) -> None:
    stored = store.begin("video/mp4", "a.mp4")
    send(store, stored, 2, b"second")
    first = send(store, stored, 1, b"?")
    assert send(store, stored, 1, b"first ") != first  # a part that is sent again replaces the former
    store.complete(stored.id, stored.key, [2, 1])
    assert store.get(stored.id).path.read_bytes() == b"first second"
    assert (names(stored), store.size) == ([stored.id], len("first second"))


def test_an_upload_is_nothing_to_read_before_it_is_complete(store: LocalFiles) -> None:
    stored = store.begin("", "")
    with pytest.raises(NotFound, match="no file"):
        store.get(stored.id)


@pytest.mark.parametrize("numbers", [[], [1], [1, 2, 3]])
def test_an_upload_is_completed_with_the_parts_that_came(store: LocalFiles, numbers: list[int]) -> None:
    stored = store.begin("", "")
    for number in (1, 2):
        send(store, stored, number, b"x")
    with pytest.raises(InvalidInput, match=r"has the parts \[1, 2\], got"):
        store.complete(stored.id, stored.key, numbers)


@pytest.mark.parametrize("number", [0, -1, 10_001])
def test_a_part_has_a_number_in_range(store: LocalFiles, number: int) -> None:
    stored = store.begin("", "")
    with pytest.raises(InvalidInput, match="a part's number is 1 to 10000"):
        store.open_part(stored.id, stored.key, number)


@pytest.mark.parametrize("key", ["", "0" * 32, "ä"])
def test_only_who_began_an_upload_writes_it(store: LocalFiles, key: str) -> None:
    stored = store.begin("", "")
    with pytest.raises(NotFound, match="no such upload"):
        store.open_part(stored.id, key, 1)


def test_a_complete_file_is_not_written_again(store: LocalFiles) -> None:
    stored = store.put(b"abc", "", "")
    with pytest.raises(NotFound, match="no such upload"):
        store.open_part(stored.id, "", 1)


def test_files_expire_at_the_latest_after_the_settings_time(store: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert not names(long)


def test_what_does_not_fit_into_the_quota_is_refused_and_nothing_is_lost(store: LocalFiles) -> None:
    kept = store.put(b"x" * 90, "", "")
    with pytest.raises(StorageFull, match="quota of 100 bytes"):
        store.put(b"x" * 11, "", "")
    assert store.publish(File(b"x" * 11), base_url="http://here") is None
    assert store.get(kept.id) is kept


def test_a_published_file_has_an_absolute_url(store: LocalFiles) -> None:
    url = store.publish(File(b"x", "image/png", "x.png"), base_url="http://here:1")
    assert url is not None and url.startswith("http://here:1/files/") and url.endswith("/x.png")


def test_an_upload_that_was_given_up_leaves_nothing(store: LocalFiles) -> None:
    stored = store.begin("", "")
    send(store, stored, 1, b"x")
    store.discard(stored)
    assert (store.size, names(stored)) == (0, [])


def test_without_a_folder_of_their_own_the_files_end_with_the_store() -> None:
    files = LocalFiles(Settings())
    stored = files.put(b"abc", "", "")
    assert stored.path.exists()
    files.close()
    assert not stored.path.parent.exists()
    files.close()  # again is without effect


@pytest.fixture
def own_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_folders_whose_owner_was_killed_are_deleted_by_the_next(own_temporary: Path) -> None:
    left = own_temporary / "streamapp-files-left"
    left.mkdir()
    (left / "file").write_bytes(b"x")
    (own_temporary / "streamapp-files-of-another-kind").write_bytes(b"")
    (own_temporary / "others").mkdir()
    living, following = TemporaryFolder(), TemporaryFolder()
    assert (left.exists(), living.path.exists(), following.path.exists()) == (False, True, True)
    assert (own_temporary / "others").exists()
    following.close()
    living.close()
    living.close()  # again is without effect
    assert [path.name for path in sorted(own_temporary.iterdir())] == ["others", "streamapp-files-of-another-kind"]


def test_a_link_is_not_followed_to_be_deleted(own_temporary: Path) -> None:
    (own_temporary / "kept").mkdir()
    (own_temporary / "streamapp-files-link").symlink_to(own_temporary / "kept")
    TemporaryFolder().close()
    assert (own_temporary / "kept").exists()


def test_a_folder_is_used_without_a_lock_where_there_are_none(
    own_temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*arguments: Any) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr("fcntl.flock", flock)
    folder = TemporaryFolder()
    assert folder.path.exists()
    folder.close()
    assert not folder.path.exists()


def test_a_forked_child_does_not_delete_its_parents_folder(own_temporary: Path) -> None:
    folder = TemporaryFolder()
    child = os.fork()
    if child == 0:
        folder.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert folder.path.exists()
    folder.close()


def test_the_first_files_at_once_share_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The temporary folder of one would be deleted, with its file, when that of the other takes its place."""
    both, mkdtemp = threading.Barrier(2), tempfile.mkdtemp

    def mkdtemp_when_both_are_here(*arguments: Any, **options: Any) -> Any:
        with suppress(threading.BrokenBarrierError):  # the other waits
            both.wait(0.2)
        return mkdtemp(*arguments, **options)

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp_when_both_are_here)
    files = LocalFiles(Settings())
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda data: files.put(data, "", ""), [b"first", b"second"])
    assert first.path.parent == second.path.parent
    assert (first.path.read_bytes(), second.path.read_bytes()) == (b"first", b"second")
    files.close()


def test_a_part_that_is_sent_twice_at_once_is_one_of_the_two(store: LocalFiles) -> None:
    stored = store.begin("", "")
    parts = [store.open_part(stored.id, stored.key, 1) for _ in range(2)]
    for data in (b"aa", b"bb"):
        for part, letter in zip(parts, data, strict=True):
            part.write(bytes([letter]))
    for part in parts:
        store.end_part(stored, 1, part)
    store.complete(stored.id, stored.key, [1])
    assert (store.get(stored.id).path.read_bytes(), names(stored)) == (b"ab", [stored.id])


def test_a_part_that_breaks_off_leaves_the_one_that_came_before(store: LocalFiles) -> None:
    stored = store.begin("", "")
    send(store, stored, 1, b"whole")
    again = store.open_part(stored.id, stored.key, 1)
    again.write(b"wh")
    again.discard()
    store.complete(stored.id, stored.key, [1])
    assert store.get(stored.id).path.read_bytes() == b"whole"


def test_what_is_still_being_sent_does_not_change_a_complete_file(store: LocalFiles) -> None:
    stored = store.begin("", "")
    send(store, stored, 1, b"first")
    late = store.open_part(stored.id, stored.key, 1)
    store.complete(stored.id, stored.key, [1])
    late.write(b"late")
    with pytest.raises(NotFound, match="no such upload"):
        store.end_part(stored, 1, late)
    late.discard()
    assert (store.get(stored.id).path.read_bytes(), names(stored)) == (b"first", [stored.id])


def test_a_part_that_comes_again_while_its_upload_is_completed_takes_nothing_away(store: LocalFiles) -> None:
    """The former part would be deleted while it is joined."""
    completing: list[Future[Stored]] = []
    is_joined, has_ended = threading.Event(), threading.Event()

    class Parts(dict[int, LocalPart]):
        """Have the upload completed as soon as the former part was looked up, and joined when it has been replaced."""

        def get(self, number: int, default: Any = None, /) -> Any:
            former = super().get(number, default)
            completing.append(pool.submit(store.complete, stored.id, stored.key, [1]))
            is_joined.wait(0.2)  # it is not when the parts are the other's for the moment
            return former

        def items(self) -> Any:
            is_joined.set()
            assert has_ended.wait(WAIT_S)
            return super().items()

    stored = store.begin("", "")
    send(store, stored, 1, b"former")
    stored.parts = Parts(stored.parts)
    with ThreadPoolExecutor(1) as pool:
        again = store.open_part(stored.id, stored.key, 1)
        again.write(b"again")
        try:
            store.end_part(stored, 1, again)
        finally:
            has_ended.set()
        assert completing[0].result(WAIT_S).path.read_bytes() == b"again"
    assert (names(stored), store.size) == ([stored.id], len("again"))


def test_of_two_that_complete_an_upload_at_once_one_does(store: LocalFiles) -> None:
    stored = store.begin("", "")
    send(store, stored, 1, b"x" * 20)
    send(store, stored, 2, b"y" * 20)

    def complete(_: int) -> str:
        try:
            return store.complete(stored.id, stored.key, [1, 2]).id
        except NotFound:
            return ""

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(complete, range(4))) == ["", "", "", stored.id]
    assert store.get(stored.id).path.read_bytes() == b"x" * 20 + b"y" * 20


def test_uploads_at_once_do_not_get_over_the_quota_together(store: LocalFiles) -> None:
    stored = store.begin("", "")
    first, second = (store.open_part(stored.id, stored.key, number) for number in (1, 2))
    first.write(b"x" * 60)
    with pytest.raises(StorageFull):
        second.write(b"x" * 60)
    second.discard()
    first.write(b"x" * 40)
    first.close()
    assert store.size == 100


def test_what_expires_while_it_is_sent_leaves_nothing(store: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = store.begin("", "", ttl_s=1)
    part = store.open_part(stored.id, stored.key, 1)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2)
    store.expire()
    part.write(b"x")
    with pytest.raises(NotFound):
        store.end_part(stored, 1, part)
    part.discard()
    assert (store.size, names(stored)) == (0, [])


def test_expired_files_make_room_for_results(store: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(b"x" * 100, "", "")
    now, clock = time.time(), time.monotonic()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    monkeypatch.setattr(time, "monotonic", lambda: clock + 61)
    assert store.publish(File(b"y" * 75), base_url="") is not None


def test_results_leave_room_for_uploads(store: LocalFiles) -> None:
    assert store.publish(File(b"x" * 75), base_url="") is not None
    assert store.publish(File(b"x"), base_url="") is None
    assert store.put(b"x" * 25, "", "").id


def test_only_so_many_files_are_kept(store: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one takes nothing of the quota, but memory."""
    monkeypatch.setattr("streamapp.stores.files._MAX_FILES", 2)
    stored = store.begin("", "")
    send(store, stored, 1, b"")
    for _ in range(2):
        with pytest.raises(StorageFull, match="there are 2 files"):
            store.open_part(stored.id, stored.key, 2)
        with pytest.raises(StorageFull, match="there are 2 files"):
            store.begin("", "")
    store.complete(stored.id, stored.key, [1])


@pytest.mark.parametrize("content_type", ["text/html\r\nX-Own: 1", "no type", "a/ü", "a/b; " + "x" * 300])
def test_a_content_type_can_be_a_header(store: LocalFiles, content_type: str) -> None:
    with pytest.raises(InvalidInput, match="expected a content type"):
        store.begin(content_type, "")


@pytest.mark.parametrize("when", ["opened", "written"])
def test_a_full_disk_is_told_as_the_quota_is(tmp_path: Path, when: str) -> None:
    store = LocalFiles(Settings(files_dir=tmp_path))
    stored = store.begin("", "")
    if when == "opened":
        tmp_path.rmdir()
        with pytest.raises(StorageFull, match="cannot be kept: No such file"):
            store.open_part(stored.id, stored.key, 1)
    else:
        part = store.open_part(stored.id, stored.key, 1)
        part.close()
        part._file = FULL.open("wb")
        part.write(b"x")
        with pytest.raises(StorageFull, match="cannot be kept: No space left"):
            store.end_part(stored, 1, part)
        part.discard()
    assert (store.size, len(store._sizes)) == (0, 1)


def test_an_upload_that_finds_the_disk_full_at_its_end_is_lost(store: LocalFiles) -> None:
    stored = store.begin("", "")
    for number in (1, 2):
        send(store, stored, number, b"x")
    stored.parts[2].path.unlink()
    with pytest.raises(StorageFull, match="cannot be kept"):
        store.complete(stored.id, stored.key, [1, 2])
    assert (store.size, names(stored)) == (0, [])
    with pytest.raises(NotFound):
        store.get(stored.id)


def test_what_a_killed_process_left_is_deleted_when_it_is_too_old_for_any_other(tmp_path: Path) -> None:
    old, young, foreign = (tmp_path / name for name in ("0" * 32, "1" * 32 + ".12345678", "notes.txt"))
    for path in (old, young, foreign):
        path.touch()
    for path in (old, foreign):
        os.utime(path, (1, 1))
    LocalFiles(Settings(files_dir=tmp_path)).begin("", "")
    assert sorted(tmp_path.iterdir()) == [young, foreign]


def test_an_upload_that_was_begun_by_somebody_else_is_not_found(store: LocalFiles) -> None:
    mine = store.begin("text/plain", "a.txt", caller="ann")
    assert store.upload(mine.id, mine.key, caller="ann") is mine
    assert store.upload(mine.id, mine.key) is mine  # as clients send bodies: by the URL alone
    with pytest.raises(NotFound):
        store.upload(mine.id, mine.key, caller="bob")


def test_a_result_is_its_callers(store: LocalFiles) -> None:
    url = store.publish(File(b"a", "text/plain"), base_url="http://x", caller="ann")
    found = store.find(str(url))
    assert found is not None
    assert found.caller == "ann"
