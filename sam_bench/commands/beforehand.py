"""Find mistakes in a second: before torch is imported, and before the first run starts."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sam_bench.api import RunSpec
from sam_bench.commands.words import need_folder, need_gpu
from sam_bench.options import dataset as options

KINDS = {"image": "multiclass"}  # the kind of targets, for data sets without the option `kind`


def check(cells: Iterable[RunSpec], results: Path, *, here: bool = True) -> None:
    """Raise UsageError for a metric, csv or device that cannot be used, and for a results folder that is not writable.

    Planning the cells has checked keys and types already. `here`: the cells run on this machine.
    """
    seen: list[tuple[Any, ...]] = []
    for cell in cells:
        section = cell.config["dataset"]
        asked = (cell.config["device"], *(section.get(key) for key in ("_target_", "path", "smiles", "targets", "kind",
                                                                       "metric", "file_sha256")))  # fmt: skip
        if asked in seen:
            continue
        seen.append(asked)
        if here:
            need_gpu(cell.config["device"])
        _check_data(section)
    need_folder(results)


def _check_data(section: Mapping[str, Any]) -> None:
    targets = {cls.target for cls in vars(options).values() if isinstance(getattr(cls, "target", None), str)}
    if section.get("_target_") not in targets:
        return  # a user's data set may have its own metric and files
    kind = section.get("kind") or KINDS.get(section["modality"])
    if section.get("metric") and kind:
        from sam_bench import metrics

        metrics.check(section["metric"], kind)
    if section.get("_target_") == options.Csv.target:
        from sam_bench.datasets.molecules import own_table

        own_table.read(section["path"], section["smiles"], section["targets"], section["kind"])
