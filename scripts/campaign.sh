#!/usr/bin/env bash
# All runs of an experiment that a published table needs, one data set after another: equal tuning, the runs, the base with
# SAM's gradient evaluations (where there is an experiment NAME_budget), and the sharpness of the runs.
#   scripts/campaign.sh EXPERIMENT TRIALS DATASET...       for instance: nice -n 19 scripts/campaign.sh graphsam_cpu 8 bbbp
# TUNING_SEEDS (default 1000) and JOBS (2 runs at once) are variables. Stop it and start it again at any time: what is
# finished is not made again. Records come from a clean commit if nothing in the checkout is changed meanwhile; publish
# afterwards with scripts/publish.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
(($# > 2)) || { echo "usage: scripts/campaign.sh EXPERIMENT TRIALS DATASET..." >&2; exit 2; }
make .venv/.bench
PATH=$PWD/.venv/bin:$PATH
experiment=$1 trials=$2 jobs=${JOBS:-2} measuring=()
shift 2
# What runs in the background does not hear Ctrl-C.
trap 'kill "${measuring[@]}" 2>/dev/null || true' EXIT
for dataset in "$@"; do
  words=("dataset=$dataset" "tuned=$experiment")
  echo "== $experiment dataset=$dataset, $(date '+%Y-%m-%d %H:%M')"
  sam-bench tune "$experiment" "dataset=$dataset" --trials "$trials" --seeds "${TUNING_SEEDS:-1000}" --jobs "$jobs"
  sam-bench sweep "$experiment" "${words[@]}" --jobs "$jobs"
  if [[ -f configs/experiment/${experiment}_budget.yaml ]]; then
    sam-bench sweep "${experiment}_budget" "${words[@]}" --jobs "$jobs"
  fi
  # half of the default samples and probes, an eigenvalue to 1 %: a quarter of a minute for a run instead of one. It takes
  # one process, so the next data set begins meanwhile.
  sam-bench sharpness "$experiment" "${words[@]}" --samples 256 --probes 8 --tolerance 0.01 &
  measuring+=("$!")
done
for one in "${measuring[@]}"; do wait "$one"; done
