"""`sam-bench wandb`."""

import argparse
from pathlib import Path

from sam_bench.api import Record
from sam_bench.commands.chosen import add_runs, by_name, chosen


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    wandb = commands.add_parser("wandb", help="send finished records to Weights & Biases")
    wandb.add_argument("action", choices=("sync",))
    add_runs(wandb)
    wandb.add_argument("--project", default="sam_bench", help="project in W&B (default: sam_bench)")
    wandb.add_argument("--entity", help="team or user in W&B (default: that of the account)")
    wandb.add_argument("--mode", default="online", choices=("online", "offline"))
    wandb.add_argument("--no-files", dest="files", action="store_false", help="send only runs, no tables and figures")
    wandb.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Send finished records, tables and figures to W&B; skips what W&B already has."""
    from tempfile import TemporaryDirectory

    records = by_name(chosen(arguments))
    from sam_bench.loggers.wandb import sync

    with TemporaryDirectory() as folder:
        files = {name: _files(name, records[name], Path(folder)) for name in records} if arguments.files else {}
        sent = sync(records, project=arguments.project, entity=arguments.entity, mode=arguments.mode, files=files)
    print(*sent, f"{len(sent)} W&B runs sent", sep="\n")
    return 0


def _files(name: str, records: list[Record], folder: Path) -> list[Path]:
    """The tables and figures of an experiment."""
    from sam_bench.results.figures.draw import draw
    from sam_bench.results.tables.table import table as render

    written = draw(records, folder, name=name)
    for format, end in (("csv", "csv"), ("markdown", "md"), ("latex", "tex"), ("html", "html")):
        path = folder / f"{name}.{end}"
        path.write_text(render(records, format=format), encoding="utf-8")
        written.append(path)
    return written
