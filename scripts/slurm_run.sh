#!/usr/bin/env bash
# Any sam-bench command as a SLURM job. In a job array every task takes the seed of its own number:
#   sbatch scripts/slurm_run.sh sweep quickstart
#   sbatch --array=0-4 scripts/slurm_run.sh run dataset=bbbp model=grover optimizer=graphsam
# Submit it from any folder. It uses the .venv of the project that it lies in, and the project's `results` unless
# SAM_BENCH_RESULTS names another folder. Without a .venv it uses the sam-bench on the PATH.
# Partition, time, memory and GPUs are options of sbatch. A job that was stopped resumes when it runs again.
#SBATCH --job-name=sam-bench
#SBATCH --cpus-per-task=2
#SBATCH --requeue
set -euo pipefail
script=${BASH_SOURCE[0]}
if [[ -n ${SLURM_JOB_ID:-} ]]; then  # SLURM runs a copy of this file, and knows where the original is
  command=$(scontrol show job "$SLURM_JOB_ID" | sed -n '/^ *Command=/{s///p;q}' || true)
  [[ $command == */slurm_run.sh* ]] && script=${command%%/slurm_run.sh*}/slurm_run.sh
  [[ $script == /* ]] || script=$SLURM_SUBMIT_DIR/$script
fi
project=$(cd "$(dirname "$script")/.." && pwd)
if [[ -x $project/.venv/bin/sam-bench ]]; then
  export PATH=$project/.venv/bin:$PATH SAM_BENCH_RESULTS=${SAM_BENCH_RESULTS:-$project/results}
fi
if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then set -- "$@" "seed=$SLURM_ARRAY_TASK_ID"; fi
exec sam-bench "$@"
