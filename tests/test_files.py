"""The file store: uploads in parts, files that expire, a quota, and URLs that lead back."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.full_disk import file_size_limit
from tests.waiting import WAIT_S

from streamapp.errors import DefinitionError, InvalidInput, NotFound, StorageFull
from streamapp.media import File
from streamapp.settings import Settings
from streamapp.stores.files import LocalFiles, LocalPart, Stored

FULL = Path("/dev/full")  # it opens, and has no room
Advance = Callable[[float], None]


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
    assert stored.path.parent.parent == tmp_path / "files"
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


def test_what_expires_while_it_is_sent_leaves_nothing(store: LocalFiles, advance: Advance) -> None:
    stored = store.begin("", "")
    part = store.open_part(stored.id, stored.key, 1)
    advance(601)
    store.expire()
    part.write(b"x")
    with pytest.raises(NotFound):
        store.end_part(stored, 1, part)
    part.discard()
    assert (store.size, names(stored)) == (0, [])


def test_an_upload_of_which_nothing_comes_expires_soon(tmp_path: Path, advance: Advance) -> None:
    store = LocalFiles(Settings(files_dir=tmp_path))
    silent, lively = store.begin("", ""), store.begin("", "")
    send(store, silent, 1, b"half")
    part = store.open_part(lively.id, lively.key, 1)
    for _ in range(3):
        advance(400)
        part.write(b"x")
        store.expire()
    store.end_part(lively, 1, part)
    assert store.complete(lively.id, lively.key, [1]).path.read_bytes() == b"xxx"
    with pytest.raises(NotFound):
        store.upload(silent.id, silent.key)
    assert (store.size, names(lively)) == (3, [lively.id])
    store.close()


def test_a_file_is_kept_from_when_it_is_complete(store: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = store.begin("", "", ttl_s=10)
    send(store, stored, 1, b"x")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 30)
    store.complete(stored.id, stored.key, [1])
    assert store.get(stored.id).expires_at == now + 40


def test_too_many_uploads_cost_who_has_most_of_them(store: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamapp.stores.files._MAX_UPLOADS", 3)
    one, *many = (store.begin("", "", caller=caller) for caller in ("ann", "bob", "bob", "bob"))
    assert [upload.id in store._uploads for upload in (one, *many)] == [True, False, True, True]


def test_uploads_that_have_stopped_make_room(store: LocalFiles, advance: Advance) -> None:
    stopped, slow, new = (store.begin("", "") for _ in range(3))
    send(store, stopped, 1, b"x" * 60)
    send(store, slow, 1, b"x" * 40)
    with pytest.raises(StorageFull):
        store.put(b"x" * 50, "", "")
    advance(61)
    send(store, slow, 2, b"")
    send(store, new, 1, b"x" * 60)
    with pytest.raises(NotFound):
        store.upload(stopped.id, stopped.key)
    assert (store.upload(slow.id, slow.key), store.size) == (slow, 100)


def test_one_caller_does_not_take_all_the_room_for_what_is_under_way(store: LocalFiles) -> None:
    mine, theirs = store.begin("", "", caller="ann"), store.begin("", "", caller="bob")
    part = store.open_part(mine.id, mine.key, 1)
    with pytest.raises(StorageFull, match="more than half of the files' 100 bytes"):
        part.write(b"x" * 51)
    part.discard()
    send(store, theirs, 1, b"x" * 50)
    store.complete(theirs.id, theirs.key, [1])
    other = store.begin("", "", caller="bob")
    send(store, other, 1, b"x" * 50)  # what is complete is under way no more
    assert store._under_way == {"bob": 50}


def test_an_upload_in_very_many_parts_makes_room_for_others(store: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand of them, empty, cost next to nothing to send."""
    monkeypatch.setattr("streamapp.stores.files._MAX_FILES", 8)
    monkeypatch.setattr("streamapp.stores.files._MANY_PARTS", 3)
    other, many = store.begin("", ""), store.begin("", "")
    for number in range(1, 7):
        send(store, many, number, b"")
    send(store, other, 1, b"x")
    with pytest.raises(NotFound):
        store.upload(many.id, many.key)
    assert len(store._kept) == 2


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


def test_only_so_many_files_are_kept(store: LocalFiles, monkeypatch: pytest.MonkeyPatch, advance: Advance) -> None:
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
    stopped = store.begin("", "")
    advance(61)
    store.begin("", "")  # in the place of what has stopped
    with pytest.raises(NotFound):
        store.upload(stopped.id, stopped.key)


@pytest.mark.parametrize("content_type", ["text/html\r\nX-Own: 1", "no type", "a/ü", "a/b; " + "x" * 300])
def test_a_content_type_can_be_a_header(store: LocalFiles, content_type: str) -> None:
    with pytest.raises(InvalidInput, match="expected a content type"):
        store.begin(content_type, "")


def test_a_full_disk_is_told_as_the_quota_is(store: LocalFiles) -> None:
    stored = store.begin("", "")
    part = store.open_part(stored.id, stored.key, 1)
    part.close()
    part._file = FULL.open("wb")
    part.write(b"x")
    with pytest.raises(StorageFull, match="cannot be kept: No space left"):
        store.end_part(stored, 1, part)
    part.discard()
    assert (store.size, len(store._kept)) == (0, 1)


def test_a_result_that_finds_the_disk_full_leaves_nothing(store: LocalFiles) -> None:
    with file_size_limit(10):
        with pytest.raises(StorageFull, match="cannot be kept: File too large"):
            store.put(b"x" * 11, "", "")
        assert store.publish(File(b"x" * 11), base_url="http://here") is None  # it is written inline
    assert (store.size, names(store.begin("", ""))) == (0, [])


def test_a_file_that_cannot_be_opened_leaves_nothing(store: LocalFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = store.begin("", "")
    monkeypatch.setattr("secrets.token_hex", lambda count: "0")
    stored.path.with_suffix(".0").symlink_to("/dev/null")
    with pytest.raises(StorageFull, match="cannot be kept: File exists"):
        store.open_part(stored.id, stored.key, 1)
    assert (store.size, names(stored)) == (0, [])


def test_a_folder_that_was_removed_is_made_anew(store: LocalFiles) -> None:
    begun, kept = store.begin("", ""), store.put(b"x" * 90, "", "")
    shutil.rmtree(kept.path.parent.parent)
    send(store, begun, 1, b"x" * 90)  # what was lost takes no room
    assert store.complete(begun.id, begun.key, [1]).path.read_bytes() == b"x" * 90
    with pytest.raises(NotFound):
        store.get(kept.id)
    assert store.put(b"x" * 10, "", "").path.parent == begun.path.parent


def test_what_stands_in_the_place_of_the_folder_is_not_written_into(store: LocalFiles, tmp_path: Path) -> None:
    folder = store.put(b"x", "", "").path.parent
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path)
    with pytest.raises(StorageFull, match="cannot be kept: File exists"):
        store.begin("", "")


def test_files_are_for_the_server_alone(store: LocalFiles) -> None:
    path = store.put(b"x", "", "").path
    assert [oct(each.stat().st_mode & 0o777) for each in (path, path.parent)] == ["0o600", "0o700"]


@pytest.mark.parametrize("other", ["a link", "nothing"])
def test_a_file_that_was_deleted_or_replaced_is_not_there(store: LocalFiles, other: str) -> None:
    stored = store.put(b"x", "", "")
    stored.path.unlink()
    if other == "a link":
        stored.path.symlink_to("/etc/passwd")
    assert store.find(f"http://x{stored.url_path}") is None


def test_a_folder_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DefinitionError, match="STREAMAPP_FILES_DIR: files cannot be kept in .*/file: it is a file"):
        LocalFiles(Settings(files_dir=tmp_path / "file"))
    with file_size_limit(0), pytest.raises(DefinitionError, match="cannot be kept in .*: File too large"):
        LocalFiles(Settings(files_dir=tmp_path))


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
