#!/usr/bin/env bash
# Makes .venv and installs this checkout with one extra: scripts/setup.sh bench|dev
# uv does it where it can be had (on PATH or by pip), else pip: INSTALLER=pip forces that.
# PYTHON=... names the interpreter to use.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
extra=${1:?usage: scripts/setup.sh bench|dev}
py=.venv/bin/python

die() { printf 'setup: %s\n' "$@" >&2; exit 2; }
new_enough() { "$1" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
    if new_enough "$candidate"; then echo "$candidate"; return; fi
  done
  die "no Python >= 3.11 found (looked for: ${PYTHON:-python3.11 python3.12 python3.13 python3 python})." \
    "Install one (Debian/Ubuntu: apt install python3 python3-venv; or https://docs.astral.sh/uv), or name it: make run PYTHON=/path/to/python3"
}

make_venv() {
  local python
  python=$(find_python)
  rm -rf .venv
  echo "setup: new .venv from $("$python" --version)"
  "$python" -m venv .venv >/dev/null 2>&1 && return
  rm -rf .venv # Debian's python3 comes without ensurepip
  uv venv -q --seed --python "$python" .venv 2>/dev/null ||
    die "$python cannot make a virtual environment: install its venv module (Debian/Ubuntu: apt install python3-venv)."
}

find_uv() {
  if [[ ${INSTALLER:-uv} == pip ]]; then return; fi
  if uv --version >/dev/null 2>&1; then echo uv; return; fi
  if $py -m pip install -q -c constraints.txt uv >/dev/null 2>&1; then echo .venv/bin/uv; fi
}

# uv reads neither PIP_* nor pip.conf. Without the same sources it would miss a mirror or its certificate, or take
# a CUDA torch where pip would take the local CPU one.
pip_setting() { # the first value of a setting in `pip config list`, which names PIP_* first; several words on one line
  sed -nE "s/^(:env:|global|install)\.$1='(\\\\n)*(.*)'$/\3/p" <<<"$pip_settings" | head -n 1 | sed 's/\\n/ /g'
}

install_with_uv() {
  local pip_settings links index extra_index cert
  pip_settings=$($py -m pip config list 2>/dev/null || true)
  links=$(pip_setting find-links) index=$(pip_setting index-url) extra_index=$(pip_setting extra-index-url)
  cert=$(pip_setting cert)
  if [[ -n $cert ]]; then export SSL_CERT_FILE=${SSL_CERT_FILE:-$cert}; fi
  if [[ -n $links ]]; then export UV_FIND_LINKS=${UV_FIND_LINKS:-${links// /,}}; fi
  if [[ -n $index ]]; then export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}; fi
  if [[ -n $extra_index && -z ${UV_INDEX:-} ]]; then export UV_INDEX=$extra_index UV_INDEX_STRATEGY=unsafe-best-match; fi
  # Without compiled bytecode each new process would compile torch again where PYTHONDONTWRITEBYTECODE is set.
  "$1" pip install --compile-bytecode --python $py -c constraints.txt -e ".[$extra]"
}

if ! new_enough $py; then make_venv; fi
uv=$(find_uv)
echo "setup: installing .[$extra] with ${uv:-pip}"
if [[ -z $uv ]] || ! install_with_uv "$uv"; then
  $py -m pip install --disable-pip-version-check -q -c constraints.txt -e ".[$extra]"
fi
touch ".venv/.$extra"
if [[ $extra == dev ]]; then touch .venv/.bench; fi # dev holds all of bench
