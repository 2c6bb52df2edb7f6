#!/usr/bin/env bash
# Copies the finished runs of an experiment, its tuning studies and what `sam-bench sharpness` measured on these runs into
# results/published, to be committed.
#   scripts/publish.sh /path/to/results EXPERIMENT [overrides]     (the words of `sam-bench sweep`)
# Then add the words to results/published/experiments.yaml, and renew what is made from the records: make published
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
(($# > 1)) || { echo "usage: scripts/publish.sh RESULTS EXPERIMENT [overrides]" >&2; exit 2; }
from=$(realpath "$1")
shift
SAM_BENCH_RESULTS=$from .venv/bin/sam-bench status "$@" --json | .venv/bin/python -c '
import json, pathlib, shutil, sys

source, target = map(pathlib.Path, sys.argv[1:])
names = [cell["run_id"] for cell in json.load(sys.stdin) if cell["status"] == "finished"]
studies = set()
for name in names:
    (target / "runs" / name).mkdir(parents=True, exist_ok=True)
    for file in ("record.json", "curve.csv"):
        shutil.copy(source / "runs" / name / file, target / "runs" / name / file)
    for file in (source / "sharpness").glob(f"{name}-????????.json"):
        (target / "sharpness").mkdir(exist_ok=True)
        shutil.copy(file, target / "sharpness" / file.name)
    tuned = json.loads((source / "runs" / name / "record.json").read_text())["config"].get("tuned")
    studies |= {tuned["study"]} if tuned else set()
for study in studies:
    if (source / "tuned" / study).is_dir():
        shutil.copytree(source / "tuned" / study, target / "tuned" / study, dirs_exist_ok=True)
print(f"{len(names)} runs, studies: {sorted(studies)}")
' "$from" results/published
