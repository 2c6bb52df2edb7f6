"""The data sets of the configuration: which are on disk, which are verified, where to get the others. No torch."""

import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sam_bench.datasets.download import File, download, locate
from sam_bench.errors import UsageError

Configs = Mapping[str, Mapping[str, Any]]  # what the YAML of each data set says, by its name
OURS = "sam_bench.datasets."


@dataclass(frozen=True)
class Row:
    """One data set: `state` is embedded, own, present, absent or wrong; `verified` is yes, no or "when read".

    "yes" means that a checksum was compared, "when read" that reading will compare it.
    """

    name: str
    modality: str
    state: str
    verified: str
    megabytes: float
    licence: str
    source: str
    note: str = ""


def listing(configs: Configs, data_dir: Path) -> list[Row]:
    """A row per data set."""
    return [_row(name, config, data_dir) for name, config in configs.items()]


def fetch(configs: Configs, data_dir: Path) -> Iterator[Row]:
    """Download what is absent; a row for each data set afterwards. If the download fails, the state is wrong."""
    for name, config in configs.items():
        row = _row(name, config, data_dir)
        if row.state == "absent":
            file = File(**config["file"])
            try:
                download(file.addresses(), data_dir / file.folder / file.name, file.md5)
                row = _row(name, config, data_dir)
            except UsageError as error:
                row = replace(row, state="wrong", note=str(error))
        yield row


def verify(configs: Configs, data_dir: Path) -> Iterator[Row]:
    """A row for each data set, after the checks that reading it would make."""
    for name, config in configs.items():
        row = _row(name, config, data_dir)
        if row.verified == "when read":
            row = _checked_now(row, config, data_dir)
        yield row


def _checked_now(row: Row, config: Mapping[str, Any], data_dir: Path) -> Row:
    check = getattr(pkgutil.resolve_name(config["_target_"].rpartition(".")[0]), "verify", None)
    if check is None:
        return replace(row, verified="no", note="its loader has no function `verify` to check the content")
    try:
        note = check(config, data_dir)
    except UsageError as error:
        return replace(row, state="wrong", verified="no", note=str(error))
    return replace(row, verified="no" if note else "yes", note=note)


def _row(name: str, config: Mapping[str, Any], data_dir: Path) -> Row:
    modality, ours = config.get("modality"), str(config.get("_target_")).startswith(OURS)
    if modality is None:
        note = "its YAML has no modality: add `modality: molecule` (or image), which says what models can read it"
        return Row(name, "?", "wrong", "no", 0.0, "yours", "", note)
    if "path" in config:
        return Row(name, modality, "own", "no", 0.0, "yours", "dataset.path")
    if "file" not in config:
        if ours:
            return Row(name, modality, "embedded", "when read", 0.0, "inside an installed package", "")
        return Row(name, modality, "own", "no", 0.0, "yours", "", "nothing is known that could check its content")
    file = File(**config["file"])
    known = {"name": name, "modality": modality, "licence": file.licence, "source": file.addresses()[0]}
    if folder := file.folder_in(data_dir):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return Row(**known, state="present", verified="when read", megabytes=size / 1e6)
    try:
        found = locate(name, file, data_dir)
    except UsageError as error:
        return Row(**known, state="wrong", verified="no", megabytes=0.0, note=str(error))
    if found is None:
        return Row(**known, state="absent", verified="no", megabytes=0.0)
    megabytes, verified = found.path.stat().st_size / 1e6, "yes" if found.verified else "no"
    return Row(**known, state="present", verified=verified, megabytes=megabytes, note=found.note)


def command_list(configs: Configs, data_dir: Path) -> int:
    """Print the table of the data sets."""
    rows = listing(configs, data_dir)
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


def command_fetch(configs: Configs, data_dir: Path) -> int:
    """Download these data sets; returns 1 if a download failed."""
    failed = False
    for row in fetch(configs, data_dir):
        print(f"{row.name}: " + (row.note if row.state == "wrong" else row.state))
        failed |= row.state == "wrong"
    return int(failed)


def command_verify(configs: Configs, data_dir: Path, *, absent_too: bool) -> int:
    """Check these data sets; returns 1 if one is broken, not the published one, or absent.

    Data sets that are absent, or the user's own, are skipped unless `absent_too`.
    """
    failed = False
    for row in verify(configs, data_dir):
        if row.state in ("absent", "own") and not absent_too:
            continue
        verdict = (
            "verified" if row.verified == "yes" else "unproven" if row.state in ("present", "embedded") else row.state
        )
        print(f"{row.name}: {verdict}" + (f" ({row.note})" if row.note else ""))
        failed |= row.state in ("wrong", "absent")
    return int(failed)
