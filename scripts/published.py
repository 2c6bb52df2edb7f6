"""What is made from the committed records: results/README.md, the README's table, the figures in paper_figures.

python scripts/published.py [ROOT]     (make published; ROOT: another folder to write into, default the repository)
"""

import contextlib
import io
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
PUBLISHED = REPOSITORY / "results" / "published"
os.environ["SAM_BENCH_RESULTS"] = str(PUBLISHED)

from sam_bench.cli import main  # noqa: E402
from sam_bench.config.compose import plan  # noqa: E402
from sam_bench.store.index import load  # noqa: E402

MARKS = ("<!-- quickstart table: begin -->", "<!-- quickstart table: end -->")
HEAD = """# Published results

Every table below is made from the committed records in [published](published) by `make published`; a test holds that.
`sam-bench table` with `SAM_BENCH_RESULTS=results/published` and the words of a section prints its table. The text
between the tables is written by hand ([experiments.yaml](published/experiments.yaml)).

## Verdicts on published claims

`SAM_BENCH_RESULTS=results/published sam-bench verdicts`. The test of each claim was written down before the runs
([claims.yaml](../sam_bench/results/claims.yaml)).

"""


def printed(*words: str) -> str:
    """What a command prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = main(words)
    assert status == 0, (words, status)
    return out.getvalue().strip()


def experiments() -> list[dict[str, Any]]:
    """Words and text of each published experiment."""
    found: list[dict[str, Any]] = yaml.safe_load((PUBLISHED / "experiments.yaml").read_text())
    return found


def results_page() -> str:
    """The text of results/README.md."""
    parts = [HEAD.rstrip(), printed("verdicts", "--format", "markdown")]
    parts += [_section(entry) for entry in experiments()]
    return "\n\n".join(parts) + "\n"


def _section(entry: Mapping[str, Any]) -> str:
    words: Sequence[str] = entry["words"].split()
    parts = [f"## {words[0]}", entry["about"].strip(), _made(words)]
    for more in (words, *(other.split() for other in entry.get("also", ()))):
        parts += [
            f"`{' '.join(more)}`",
            re.sub("^### ", "#### ", printed("table", *more, "--format", "markdown"), flags=re.M),
        ]
    return "\n\n".join(parts)


def _made(words: Sequence[str]) -> str:
    """How many runs there are, on what they were made, and when."""
    records = load(PUBLISHED, [cell.run_id for cell in plan(words[0], words[1:])])
    runs = [record for record in records if record["status"] == "finished"]
    hours = sum(run["train_seconds"] + run["eval_seconds"] for run in runs) / 3600
    made = [run["provenance"] for run in runs]
    days = sorted({part["finished"][:10] for part in made})
    machines = sorted({f"{part['hardware']['name']}, {part['hardware']['threads']} thread(s) a run" for part in made})
    versions = sorted({f"torch {part['versions']['torch']}" for part in made})
    commits = sorted({part["commit"][:10] for part in made})
    when = " to ".join(dict.fromkeys([days[0], days[-1]]))
    where = f"{'; '.join(machines)}; {', '.join(versions)}"
    return (
        f"{len(runs)} runs, {hours:.1f} hours of training and evaluation; {where}; {when}; commit {', '.join(commits)}."
    )


def readme(text: str) -> str:
    """README.md with the table of quickstart as the records give it, without the table of its tuning."""
    begin, end = MARKS
    shown = printed("table", "quickstart", "--format", "markdown").partition("\n### tuning")[0].strip()
    table = f"{begin}\n{shown}\n{end}"
    return re.sub(f"{begin}.*?{end}", lambda _: table, text, flags=re.S)


def figures(folder: Path) -> None:
    """The figures of every published experiment, as PNG; others than these in `folder` are removed."""
    shutil.rmtree(folder, ignore_errors=True)
    for entry in experiments():
        printed("figures", *entry["words"].split(), "--out", str(folder), "--format", "png")


if __name__ == "__main__":
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY
    (root / "results").mkdir(parents=True, exist_ok=True)
    (root / "results" / "README.md").write_text(results_page())
    (root / "README.md").write_text(readme((REPOSITORY / "README.md").read_text()))
    figures(root / "paper_figures")
