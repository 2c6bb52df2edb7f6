"""Links that somebody plants where a sweep is about to write: what they point to must stay as it is."""

import contextlib
import os
import random
import time
from pathlib import Path


class Links:
    """A folder of somebody else, and links to it and into it; `cells` are the run ids that may be in the way."""

    def __init__(self, theirs: Path, draw: random.Random):
        self.theirs, self.draw = theirs, draw
        self.cells: list[str] = []
        self.content = {"work.txt": "of somebody else", ".settings": "not ours", "checkpoint.pt": "theirs"}
        theirs.mkdir()
        for name, text in self.content.items():
            (theirs / name).write_text(text)

    def plant(self, results: Path, seconds: float) -> None:
        """For a while: logs, heartbeats and checkpoints of runs under way, and folders of runs that come later."""
        runs = results / "runs"
        under_way = [path.name.partition(".")[0] for path in runs.glob("*.running")] if runs.is_dir() else []
        files = [results / "logs" / f"{name}.log" for name in self.cells]
        files += [runs / f"{name}.running" / file for name in under_way for file in ("heartbeat.json", "checkpoint.pt")]
        folders = [runs / f"{name}.running" for name in self.cells if name not in under_way]
        wanted = [*((file, self.theirs / "work.txt") for file in files), *((folder, self.theirs) for folder in folders)]
        for place, target in wanted:
            if self.draw.random() < 0.5:
                _link(place, target)
        time.sleep(seconds)
        for folder, folders, files in os.walk(results):  # all of them: a sweep may have renamed one
            for path in (Path(folder) / name for name in (*folders, *files)):
                if path.is_symlink():
                    path.unlink(missing_ok=True)

    def touched(self) -> list[str]:
        """Files that were changed, removed (None), or put there, with what they hold now."""
        found = {path.name: path.read_text() for path in self.theirs.iterdir()}
        names = sorted(name for name in found | self.content if found.get(name) != self.content.get(name))
        return [f"{name}: {found.get(name)!r:.200}" for name in names]


def _link(place: Path, target: Path) -> None:
    """Put a link in the place of a file, or of what is not there yet, if that can be."""
    with contextlib.suppress(OSError):
        if place.is_file():
            place.unlink()
        place.symlink_to(target)
