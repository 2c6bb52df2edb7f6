"""Makes a Python process die at its own write boundaries: put on PYTHONPATH by scripts/chaos/chaos.py, by nobody else.

An audit hook hears of every file that is about to be opened for writing, renamed, linked, removed or made below
$CHAOS_FOLDER. At one in $CHAOS_EVERY such events the process cuts a file short that it has written itself in the
working folder of a run - at a random length, in half of the cases - and ends itself with SIGKILL. What it did is
appended to $CHAOS_LOG.
"""

import contextlib
import os
import random
import signal
import sys

FOLDER, LOG, EVERY = (os.environ.get(name, "") for name in ("CHAOS_FOLDER", "CHAOS_LOG", "CHAOS_EVERY"))
BOUNDARIES = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Saboteur:
    """The audit hook; drawn anew in each process, for they are forked from one another."""

    def __init__(self):
        self.pid, self.inside = 0, False
        self.begin()

    def begin(self) -> None:
        """A new process: nothing written yet, and draws of its own."""
        self.pid, self.written, self.folder = os.getpid(), [], ""
        self.draw = random.Random(f"{os.environ.get('CHAOS_SEED')} {self.pid}")

    def __call__(self, event: str, arguments: tuple) -> None:
        if event not in BOUNDARIES or self.inside:
            return
        if self.pid != os.getpid():
            self.begin()
        self.inside = True
        try:
            paths = [self.absolute(path) for path in arguments[:2] if isinstance(path, (str, os.PathLike))]
            if not paths[:1] or not paths[0].startswith(FOLDER):
                return
            if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
                return
            self.folder = os.path.dirname(paths[0])
            self.written = [*self.written, paths[-1]][-20:]
            if self.draw.random() * float(EVERY) < 1.0:
                self.die(event, paths)
        finally:
            self.inside = False

    def absolute(self, path: str | os.PathLike) -> str:
        """Leases are named relative to the open folder of their run."""
        path = os.fspath(path)
        return os.path.join(self.folder, path) if path.startswith(("lease.", ".lease.")) else path

    def owns(self, path: str) -> bool:
        """Whether a file is there, no link that was planted in its place, and no lease that another process won."""
        if os.path.islink(path):
            return False
        try:
            with open(path, "rb") as file:
                return "lease." not in path or f'"pid": {self.pid},'.encode() in file.read()
        except OSError:
            return False

    def die(self, event: str, paths: list[str]) -> None:
        """Cut a file of a running run short, perhaps, and end."""
        files = [path for path in dict.fromkeys(self.written) if ".running/" in path and self.owns(path)]
        cut = ""
        if files and self.draw.random() < 0.5:
            cut = self.draw.choice(files)
            with contextlib.suppress(OSError):
                os.truncate(cut, self.draw.randrange(os.path.getsize(cut) + 1))
        log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        told = f"{event} {os.path.basename(paths[-1])}"
        os.write(log, f"{self.pid} {told}{' cut ' + os.path.basename(cut) if cut else ''}\n".encode())
        os.kill(self.pid, signal.SIGKILL)


if FOLDER and EVERY:
    sys.addaudithook(Saboteur())
