"""What stands in for a worker that trains, in tests of the engine that starts workers: it needs no torch."""

import os
import sys
import time


def obedient(cell, results, log, gpu, messages, on_gpu):
    """Make a file of the cell's name; say something when `results` appears, end in silence when the parent is gone."""
    parent = os.getppid()
    results.with_name(cell.run_id).touch()
    while not results.exists():
        if os.getppid() != parent:
            sys.exit(75)
        time.sleep(0.01)
    messages.send("done")
    sys.exit(0)
