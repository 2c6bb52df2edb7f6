#!/usr/bin/env bash
# Any sam-bench command as a SLURM job. In a job array every task takes the seed of its own number:
#   sbatch scripts/slurm_run.sh sweep quickstart
#   sbatch --array=0-4 scripts/slurm_run.sh run dataset=bbbp model=grover optimizer=graphsam
# Partition, time, memory and GPUs are options of sbatch. A job that was stopped goes on where it was when it runs again.
#SBATCH --job-name=sam-bench
#SBATCH --cpus-per-task=2
#SBATCH --requeue
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then set -- "$@" "seed=$SLURM_ARRAY_TASK_ID"; fi
PATH=$PWD/.venv/bin:$PATH exec sam-bench "$@"
