"""`python -m sam_bench` and `sam-bench`: one program."""

import os
import sys


def start() -> int:
    """The command line, without a traceback for a Ctrl-C that comes while Python imports."""
    _leave_current_folder()
    # The Pythons that we start - a fork server, workers that featurise - have the current folder on their path only
    # where this process puts it there.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        from sam_bench.cli import main

        return main()
    except KeyboardInterrupt:
        print("sam-bench: interrupted", file=sys.stderr)
        return 130


def _leave_current_folder() -> None:
    """Take from the path what `python -m` put first: a file there could pass for any module that we import.

    The package's own folder stays, and its child processes find it too: a source tree works without being installed.
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if sys.flags.safe_path or sys.path[0] not in ("", os.getcwd()):
        return
    if os.path.samefile(os.getcwd(), home):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
    else:
        del sys.path[0]


if __name__ == "__main__":
    sys.exit(start())
