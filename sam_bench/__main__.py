"""`python -m sam_bench` is the same program as `sam-bench`."""

import os
import sys

# `python -m` puts the current folder first on the path: a file there could pass for any module that we import. The
# package's own folder stays, and its child processes find it too: a source tree works without being installed.
_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):
    if os.path.samefile(os.getcwd(), _HOME):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_HOME, os.environ.get("PYTHONPATH")]))
    else:
        del sys.path[0]

from sam_bench.cli import main  # noqa: E402 - after the path is clean

if __name__ == "__main__":
    sys.exit(main())
