# Sourced by run_pipeline.sh and run_tests.sh: a Python, .venv, and what the project needs. Works with bash 3.2 (macOS).

choose_python() {
  # The machine's own python3 if it is 3.11 or newer and can make virtual environments, otherwise the next best.
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.14 python; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
      "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  echo "error: no Python 3.11 or newer with venv found. Debian and Ubuntu: sudo apt-get install python3 python3-venv;" \
    "macOS: brew install python@3.13; or set PYTHON=/path/to/python" >&2
  exit 1
}

prepare_environment() {
  # $1: packages besides the project; $2: its extras, for example "[dev]". Does nothing when all of it is there.
  local python wanted
  wanted="$1 $2 $(cat pyproject.toml constraints.txt | cksum)"
  if [ -x .venv/bin/python ] && [ "$(cat .venv/installed"$2" 2>/dev/null)" = "$wanted" ] &&
    .venv/bin/python -c 'import torch, tatar_llm' >/dev/null 2>&1; then
    return
  fi
  if ! .venv/bin/python -c 'import sys' >/dev/null 2>&1; then
    python="$(choose_python)"
    echo "making .venv with $("$python" --version)" >&2
    rm -rf .venv
    "$python" -m venv .venv
  fi
  echo "installing into .venv (a few minutes the first time)" >&2
  install_torch
  # shellcheck disable=SC2086
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $1 -e ".$2"
  printf '%s\n' "$wanted" >.venv/installed"$2"
}

install_torch() {
  # Linux without an NVIDIA driver: the CPU build from PyTorch's own index, a tenth of the size of the default one.
  local torch
  torch="$(grep '^torch==' constraints.txt)"
  if .venv/bin/python -c 'import torch' >/dev/null 2>&1; then return; fi
  if [ "$(uname -s)" = "Linux" ] && ! command -v nvidia-smi >/dev/null 2>&1; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 0 --timeout 5 \
      --index-url https://download.pytorch.org/whl/cpu "$torch" >/dev/null 2>&1 && return
  fi
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "$torch"
}
