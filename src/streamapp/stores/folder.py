"""Have a folder for a server's files, which ends with the process and which nobody else can look into.

It is made below the one that a deployment names, or the system's temporary one, with a name that cannot be guessed, and
locked as long as its process lives, which the system lets go of whatever becomes of that. Who starts next to it deletes
those whose processes have ended. So servers may share a folder, and a crash leaves nothing behind for long.
"""

import atexit
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

from ..process.logs import logger

_PREFIX = "streamapp-files-"
_TRIES = 3


class TemporaryFolder:
    """Make the folder, and delete it at the end.

    Args:
        parent: where it is made, itself made where it is not there; the system's temporary folder when None.
    Raises:
        OSError: it cannot be made there, or must not; its `strerror` says why.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = None if parent is None else parent.absolute()  # the app may change the working directory
        if self._parent is not None:
            _prepare(self._parent)
        _sweep(self._parent or Path(tempfile.gettempdir()))
        self._owner = os.getpid()
        for tries_left in reversed(range(_TRIES)):  # another process that sweeps may be faster
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._parent))
            self._lock = _try_lock(self.path)
            if self._lock is not None or not tries_left:
                break
            shutil.rmtree(self.path, ignore_errors=True)
        atexit.register(self.close)

    def check_room(self) -> None:
        """Raise OSError where nothing can be written."""
        with tempfile.TemporaryFile(dir=self.path) as file:
            file.write(b"x")

    def restore(self) -> bool:
        """Make the folder anew where somebody has deleted it, and say so; raises OSError as the making does."""
        if _is_folder(self.path):
            return False
        if self._parent is not None:
            _prepare(self._parent)
        self.path.mkdir(mode=0o700)
        self._unlock()
        self._lock = _try_lock(self.path)
        return True

    def close(self) -> None:
        """Delete the folder; again, and in a forked child, without effect."""
        atexit.unregister(self.close)
        if os.getpid() == self._owner:
            shutil.rmtree(self.path, ignore_errors=True)
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _prepare(folder: Path) -> None:
    """Make sure that a folder is there, and is nobody else's: who owns it can change what is read from it.

    One that holds nothing else is closed to others. What is in it of ours is closed to them in any case.
    """
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"it is a link; name {folder.resolve()} itself")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, "it is a file") from None
    held = folder.stat()
    if held.st_uid not in (os.getuid(), 0):
        raise PermissionError(errno.EPERM, f"it belongs to the user {held.st_uid}; name a folder of the server's own")
    is_open = held.st_mode & 0o077 and not held.st_mode & stat.S_ISVTX
    if is_open and held.st_uid == os.getuid() and all(name.startswith(_PREFIX) for name in os.listdir(folder)):
        folder.chmod(0o700)
        logger.info("%s was open to other users, and is no longer", folder)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _sweep(parent: Path) -> None:
    """Delete the folders of this user's whose owners have ended without doing so."""
    for path in parent.glob(f"{_PREFIX}*"):
        lock = _try_lock(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _try_lock(path: Path) -> int | None:
    """Lock a folder of this user's; None where somebody else has, or has deleted it meanwhile."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(lock)
        if held.st_uid == os.getuid() and os.path.samestat(held, os.lstat(path)):
            return lock
    except OSError:
        pass
    os.close(lock)
    return None
