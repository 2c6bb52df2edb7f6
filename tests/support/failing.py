"""A method that fails, for tests of what is said of a failure."""

import getpass
import socket
from pathlib import Path

from sam_bench.optim import SAM


class Leaky(SAM):
    """Fails as libraries do: with paths, with a path in a chain, with who and where."""

    def direction(self, oracle):
        try:
            (Path.home() / "my thesis" / "unpublished.csv").read_bytes()
        except OSError as error:
            where = f"{getpass.getuser()}@{socket.gethostname()}"
            raise RuntimeError(f"no {Path.home()}/cache/kernel.so for {where}, nor /opt/zacharias/lib.so") from error
