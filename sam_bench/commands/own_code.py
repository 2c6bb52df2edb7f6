"""Say when a finished run was made with another version of the user's own code than there is now."""

from collections.abc import Sequence
from pathlib import Path

from sam_bench.api import RunSpec
from sam_bench.store.folder import RunDirectory
from sam_bench.store.record import read_record


def changed(cells: Sequence[RunSpec], results: Path) -> str:
    """A warning that names the modules and counts the finished runs; empty where nothing has changed."""
    from sam_bench.config.build import own_code, targets_in, trust_current_folder

    trust_current_folder()
    modules: dict[str, None] = {}
    found: dict[tuple[str, ...], dict[str, str]] = {}  # cells of a grid name the same few classes
    runs = 0
    for cell in cells:
        key = tuple(targets_in(cell.config))
        if key not in found:
            found[key] = own_code(cell.config)
        now, directory = found[key], RunDirectory(results, cell.run_id)
        if now and directory.finished:
            then = read_record(directory.final)["provenance"].get("own_code", {})
            different = [name for name, digest in then.items() if now.get(name, digest) != digest]
            modules |= dict.fromkeys(different)
            runs += bool(different)
    if not runs:
        return ""
    return (
        f"warning: {runs} finished run{'s were' if runs > 1 else ' was'} made with another version of "
        f"{', '.join(modules)}: give the changed part another name, or move the old runs away to repeat them"
    )
