"""The data sets of the configuration: which are here, which are proven, where the others come from. No torch."""

import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from sam_bench.datasets.download import File, download, locate
from sam_bench.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Row:
    """One data set: `state` is embedded, own, present, absent or wrong; `verified` is yes, no or "when read"."""

    name: str
    modality: str
    state: str
    verified: str
    megabytes: float
    licence: str
    source: str
    note: str = ""


def listing(config_dirs: Iterable[Path], data_dir: Path, names: Sequence[str] = ()) -> list[Row]:
    """A row per data set, by name; raises UsageError for an unknown name."""
    return [_row(name, config, data_dir) for name, config in _configs(config_dirs, names)]


def fetch(config_dirs: Iterable[Path], data_dir: Path, names: Sequence[str]) -> Iterator[Row]:
    """Download what is absent; a row for each data set, as it is then. One that cannot be had has state wrong."""
    for name, config in _configs(config_dirs, names):
        row = _row(name, config, data_dir)
        if row.state == "absent":
            file = File(**config["file"])
            try:
                download(file.addresses(), data_dir / file.folder / file.name, file.md5)
                row = _row(name, config, data_dir)
            except UsageError as error:
                row = replace(row, state="wrong", note=str(error))
        yield row


def verify(config_dirs: Iterable[Path], data_dir: Path, names: Sequence[str]) -> Iterator[Row]:
    """A row for each data set that is here, or was named; what else is checked when it is read is checked now."""
    for name, config in _configs(config_dirs, names):
        row = _row(name, config, data_dir)
        if row.verified == "when read":
            check = pkgutil.resolve_name(config["_target_"].rpartition(".")[0]).verify
            try:
                note = check(config, data_dir)
                row = replace(row, verified="no" if note else "yes", note=note)
            except UsageError as error:
                row = replace(row, state="wrong", verified="no", note=str(error))
        if names or row.state not in ("absent", "own"):
            yield row


def _configs(config_dirs: Iterable[Path], names: Sequence[str]) -> list[tuple[str, dict]]:
    paths: dict[str, Path] = {}
    for folder in config_dirs:
        for path in sorted((folder / "dataset").glob("*.yaml")):
            paths.setdefault(path.stem, path)  # the user's own folders come first
    for name in names:
        if name not in paths:
            raise UsageError(f"There is no data set {name!r}. {did_you_mean(name, paths)}")
    return [(name, _read(paths[name])) for name in sorted(names or paths)]


def _read(path: Path) -> dict:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no YAML file: {error}") from None


def _row(name: str, config: dict, data_dir: Path) -> Row:
    if "path" in config:
        return Row(name, config["modality"], "own", "no", 0.0, "yours", "dataset.path")
    if "file" not in config:
        verified = "when read" if "sha256" in config else "yes"
        return Row(name, config["modality"], "embedded", verified, 0.0, "inside an installed package", "")
    file = File(**config["file"])
    known = {"name": name, "modality": config["modality"], "licence": file.licence, "source": file.addresses()[0]}
    if folder := file.folder_in(data_dir):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Row(**known, state="present", verified="when read", megabytes=size / 1e6)
    try:
        found = locate(name, file, data_dir)
    except UsageError as error:
        return Row(**known, state="wrong", verified="no", megabytes=0.0, note=str(error))
    if found is None:
        return Row(**known, state="absent", verified="no", megabytes=0.0)
    size = found.path.stat().st_size / 1e6
    return Row(**known, state="present", verified="yes" if found.verified else "no", megabytes=size, note=found.note)


def command_list(names: Sequence[str], config_dirs: Iterable[Path], data_dir: Path) -> int:
    """Print the table of the data sets."""
    rows = listing(config_dirs, data_dir, names)
    print(f"data folder: {data_dir}\n")
    print(f"{'name':<18}{'modality':<10}{'state':<10}{'verified':<11}{'MB':>8}  licence")
    for row in rows:
        size = f"{row.megabytes:.1f}" if row.megabytes else "-"
        print(
            f"{row.name:<18}{row.modality:<10}{row.state:<10}{row.verified:<11}{size:>8}  {row.licence or row.source}"
        )
    for row in rows:
        if row.note:
            print(f"\n{row.name}: {row.note}", end="")
    print("\nverified: the bytes have the published checksum. `sam-bench data fetch NAME` gets what is absent.")
    return 0


def command_fetch(names: Sequence[str], config_dirs: Iterable[Path], data_dir: Path) -> int:
    """Download the named data sets, or all: 1 if one could not be had."""
    failed = False
    for row in fetch(config_dirs, data_dir, names):
        print(f"{row.name}: " + (row.note if row.state == "wrong" else row.state))
        failed |= row.state == "wrong"
    return int(failed)


def command_verify(names: Sequence[str], config_dirs: Iterable[Path], data_dir: Path) -> int:
    """Check the named data sets, or all that are here: 1 if one is broken, not the published one, or absent."""
    failed = False
    for row in verify(config_dirs, data_dir, names):
        verdict = "verified" if row.verified == "yes" else "unproven" if row.state == "present" else row.state
        print(f"{row.name}: {verdict}" + (f" ({row.note})" if row.note else ""))
        failed |= row.state in ("wrong", "absent")
    return int(failed)
