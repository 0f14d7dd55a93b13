"""Fork `python -u -m streamapp` from a process that has imported it: most of what a small server costs is its imports.

What is forked has the arguments, the environment and the output that it is given, and a session of its own; from there
on it is what the command would be, and it ends as Python ends. It is no child of the tests: the nursery, whose child it
is, tells them its exit code.
"""

import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path

_MOST_BYTES = 200_000  # arguments and environment


class Forked:
    """A process, by that part of `subprocess.Popen` which tests use.

    Args:
        stderr: a descriptor that it has there; else what it writes is to be read.
        folder: where it runs, instead of here.
    """

    def __init__(
        self, *arguments: str, env: Mapping[str, str], stderr: int | None = None, folder: Path | None = None
    ) -> None:
        pipes = [os.pipe() for _ in range(3)]
        asked = json.dumps([str(folder or os.getcwd()), arguments, {**env}]).encode()
        output, errors, told = (theirs for _, theirs in pipes)
        socket.send_fds(_nursery()[0], [asked], [output, errors if stderr is None else stderr, told])
        for _, theirs in pipes:
            os.close(theirs)
        self.stdout, self.stderr, self._told = (os.fdopen(ours) for ours, _ in pipes)
        self.pid = int(self._told.readline())
        self._code: int | None = None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # else its id may be another's
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        """Return its exit code where it has ended."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    @property
    def returncode(self) -> int | None:
        """Its exit code, where it was waited for."""
        return self._code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it still prints, when it has ended; what is late may be asked for again."""
        if wait(self._rest, timeout).not_done:
            raise subprocess.TimeoutExpired("streamapp", timeout or 0)
        self.wait(timeout)
        printed, errors = (future.result() for future in self._rest)
        return printed, errors

    @cached_property
    def _rest(self) -> "list[Future[str]]":
        pool = ThreadPoolExecutor(2)
        rest = [pool.submit(file.read) for file in (self.stdout, self.stderr)]
        pool.shutdown(wait=False)
        return rest

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code: of what a signal has ended, the signal's negative number."""
        if self._code is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("streamapp", timeout or 0)
            self._code = int(self._told.readline())
        return self._code

    def close(self) -> None:
        for file in (self.stdout, self.stderr, self._told):
            file.close()


@lru_cache(maxsize=1)
def _nursery() -> "tuple[socket.socket, subprocess.Popen[bytes]]":
    """Start the process to fork from; it ends when this one has."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-u", "-m", __name__]
        own = Path(__file__).parent.parent  # a test may be in a folder of its own
        return ours, subprocess.Popen(command, stdin=theirs.fileno(), start_new_session=True, cwd=own)


def main() -> None:
    """Fork whatever is asked for, and tell how each has ended. Of what is forked it runs all of the life."""
    importlib.import_module("streamapp.cli.main")
    asked = socket.socket(fileno=0)
    living: dict[int, tuple[int, int]] = {}  # by a descriptor of the process: its id, and where its end is told
    while True:
        for ready in select.select([asked.fileno(), *living], [], [])[0]:
            if ready in living:
                pid, told = living.pop(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with suppress(BrokenPipeError):  # a test that has failed does not wait for it
                    os.write(told, b"%d\n" % code)
                os.close(told)
                os.close(ready)
                continue
            message, descriptors, _, _ = socket.recv_fds(asked, _MOST_BYTES, 3)
            if not message:
                return
            pid = os.fork()
            if not pid:
                asked.detach()
                for descriptor in (*living, *(told for _, told in living.values())):
                    os.close(descriptor)
                _become(descriptors, *json.loads(message))
                return
            *output, told = descriptors
            for descriptor in output:
                os.close(descriptor)
            with suppress(BrokenPipeError):
                os.write(told, b"%d\n" % pid)
            living[os.pidfd_open(pid)] = pid, told


def _become(descriptors: list[int], folder: str, arguments: list[str], environment: dict[str, str]) -> None:
    """Be what has been asked for, to its end."""
    os.setsid()
    for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), *descriptors[:2])):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.close(descriptors[2])
    os.chdir(folder)
    sys.path[0] = folder  # as `python -m` has it
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["streamapp", *arguments]
    runpy.run_module("streamapp", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
