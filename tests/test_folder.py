"""The folder of a server's files: its own, locked, deleted with it or by the next, and nobody else's to look into."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import WAIT_S

from streamapp.stores.folder import TemporaryFolder


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
    assert [*own_temporary.iterdir()] == [folder.path]
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


KILLED = """
import os, pathlib, sys
from streamapp.stores.folder import TemporaryFolder
(TemporaryFolder(pathlib.Path(sys.argv[1])).path / "left").touch()
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_server_left_is_deleted_and_a_living_neighbours_is_not(tmp_path: Path) -> None:
    living = TemporaryFolder(tmp_path)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=WAIT_S, check=False)
    assert (killed.returncode, len(list(tmp_path.iterdir()))) == (-9, 2)
    following = TemporaryFolder(tmp_path)
    assert {*tmp_path.iterdir()} == {living.path, following.path}
    for folder in (living, following):
        folder.close()


def test_a_folder_that_is_not_there_is_made_for_the_server_alone(tmp_path: Path) -> None:
    folder = TemporaryFolder(tmp_path / "a" / "b")
    assert [mode(path) for path in (folder.path, folder.path.parent)] == ["0o700"] * 2
    folder.close()


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o7777)


def test_a_folder_that_is_there_for_nothing_else_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    TemporaryFolder(tmp_path).close()
    assert mode(tmp_path) == "0o700"


@pytest.mark.parametrize(("rights", "other"), [(0o755, "models"), (0o1777, "streamapp-files-x")])
def test_a_folder_that_others_use_is_left_as_it_is(tmp_path: Path, rights: int, other: str) -> None:
    (tmp_path / other).touch()
    tmp_path.chmod(rights)
    folder = TemporaryFolder(tmp_path)
    assert (mode(tmp_path), mode(folder.path)) == (oct(rights), "0o700")
    folder.close()


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() == 0:
        os.chown(tmp_path, 1, 1)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 1)
    with pytest.raises(PermissionError, match="it belongs to the user"):
        TemporaryFolder(tmp_path)


@pytest.mark.parametrize("path", ["link", "dangling", "file", "file/below"])
def test_what_is_no_folder_is_refused(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    with pytest.raises(OSError, match="it is a link; name|it is a file|Not a directory"):
        TemporaryFolder(tmp_path / path)


def test_a_folder_that_was_removed_is_made_anew_and_is_locked(tmp_path: Path) -> None:
    folder = TemporaryFolder(tmp_path / "files")
    shutil.rmtree(tmp_path / "files")
    assert [folder.restore(), folder.restore()] == [True, False]
    TemporaryFolder(tmp_path / "files").close()  # it sweeps
    assert folder.path.exists()
    folder.close()


def test_the_temporary_folder_is_restored_as_any_other(own_temporary: Path) -> None:
    folder = TemporaryFolder()
    folder.path.rmdir()
    assert folder.restore()
    folder.close()
    assert [*own_temporary.iterdir()] == []


def test_a_name_that_is_relative_means_the_same_wherever_the_app_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = TemporaryFolder(Path("files"))
    assert folder.path.parent == tmp_path / "files"
    folder.close()


def test_room_is_looked_for_in_the_folder(tmp_path: Path) -> None:
    folder = TemporaryFolder(tmp_path)
    folder.check_room()
    assert [*folder.path.iterdir()] == []
    shutil.rmtree(folder.path)
    with pytest.raises(OSError, match="No such file"):
        folder.check_room()
    folder.close()
