#!/usr/bin/env bash
# The comparisons of the GraphSAM paper (ICLR 2024, arXiv 2406.13137): data, runs, tables, figures.
#   scripts/reproduce_graphsam.sh                      all of it, as in the paper
#   scripts/reproduce_graphsam.sh --dry-run            only what would be run, and how long it takes
#   scripts/reproduce_graphsam.sh train.max_steps=5 --jobs 2    any words and options of `sam-bench sweep`
# What is finished is not run again, so it may be stopped and started at any time. docs/papers.md: what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
make .venv/.bench
PATH=$PWD/.venv/bin:$PATH
experiments=(graphsam_main graphsam_efficient graphsam_code)

same=() dry=  # the words that also name the runs for table and figures
take() {
  while (($#)); do
    case $1 in
      --dry-run) dry=yes ;;
      --filter) same+=("$1" "${2:?--filter needs a value}"); shift ;;
      --filter=*) same+=("$1") ;;
      --* | launcher.*) ;;
      *=*) same+=("$1") ;;
    esac
    shift
  done
}
take "$@"

if [[ $dry ]]; then
  for experiment in "${experiments[@]}"; do
    echo "== $experiment"
    sam-bench sweep "$experiment" "$@"
  done
  exit
fi

tables=${SAM_BENCH_RESULTS:-results}/tables
mkdir -p "$tables"
sam-bench data fetch bbbp clintox sider tox21 esol lipophilicity
failed=0
for experiment in "${experiments[@]}"; do
  sam-bench sweep "$experiment" "$@" || failed=1
  sam-bench table "$experiment" ${same[@]+"${same[@]}"} --format markdown --out "$tables/$experiment.md"
  sam-bench figures "$experiment" ${same[@]+"${same[@]}"}
done
echo "tables: $tables/graphsam_*.md   figures: paper_figures/"
exit "$failed"
