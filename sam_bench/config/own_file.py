"""The user's own data file, `dataset.path`: where it is, and its checksum, which identifies it in a run."""

from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sam_bench.config import files
from sam_bench.errors import UsageError
from sam_bench.store.disk import checksum

KEY = "dataset.path"


def folder_of(choices: Mapping[str, Any]) -> Path:
    """The folder to which a relative dataset.path of a YAML refers: the folder of that YAML.

    The YAML of the experiment or of the data set may set the path.
    """
    for group, section in (("experiment", ("dataset",)), ("dataset", ())):
        name = str(choices.get(group))
        if name in files.yaml_files(group) and (said := files.that_says(group, name, (*section, "path"))):
            return said.parent
    return Path.cwd()


@cache
def _checksum(path: Path, changed: int) -> str:
    """The checksum of a file, computed once for each change, because many cells read one file."""
    return checksum(path)


def from_folder(values: Iterable[str], folder: Path) -> list[str]:
    """The values of a grid's axis `dataset.path: a.csv,b.csv` as full paths in Hydra's quotes."""
    paths = [folder / Path(value.strip("'\"")).expanduser() for value in values]
    escaped = (str(path).replace("\\", "\\\\").replace("'", "\\'") for path in paths)
    return [f"'{path}'" for path in escaped]


def known_by_content(dataset: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """The options of a data set with the file's checksum and full path; a relative path starts in `folder`.

    The same file in another place gives the same run; a changed file gives another run.
    """
    if "file_sha256" not in dataset or dataset["path"] is None:
        return dataset
    path = (folder / Path(str(dataset["path"])).expanduser()).absolute()
    try:
        actual = _checksum(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    if dataset["file_sha256"] not in (None, actual):
        raise UsageError(f"{path} has changed (sha256 {actual}). To use it as it is, leave out dataset.file_sha256.")
    if isinstance(dataset.get("targets"), str | int):  # y and [y] are one run
        dataset = {**dataset, "targets": [dataset["targets"]]}
    return {**dataset, "path": str(path), "file_sha256": actual}
