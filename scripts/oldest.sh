#!/usr/bin/env bash
# Makes .venv/oldest: the oldest torch, numpy and PyYAML that pyproject.toml takes for the library, and what its tests
# need. Wheels of torch from that time bring CUDA along; everything is installed as a wheel.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
new=.venv/oldest
pins=$(.venv/bin/python - <<'END'
import tomllib
with open("pyproject.toml", "rb") as file:
    print(*(line.replace(">=", "==") for line in tomllib.load(file)["project"]["dependencies"]))
END
)
tests=(hypothesis packaging 'pytest<9.2' pytest-timeout pytest-xdist)
echo "oldest: $pins"
rm -rf $new
.venv/bin/python -m venv $new
# shellcheck disable=SC2086  # the pins are words
if [[ ${INSTALLER:-uv} != pip && -x .venv/bin/uv ]]; then
  .venv/bin/uv pip install -q --only-binary :all: --python $new/bin/python $pins "${tests[@]}"
else
  $new/bin/python -m pip install -q --only-binary :all: $pins "${tests[@]}"
fi
touch $new/.made
