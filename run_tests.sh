#!/usr/bin/env bash
# All checks: makes .venv, installs, runs ruff, mypy and pytest. `--slow` adds the long tests; other arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/environment.sh
prepare_environment "" "[dev]"
slow="not slow"
side_by_side="-n 2 --dist loadfile"  # tests take one thread each
coverage=""  # takes a quarter of the time
if [ "${1:-}" = "--slow" ]; then
  slow="" side_by_side=""; shift
  [ $# -gt 0 ] || coverage="--cov --cov-report=term --cov-fail-under=85"  # of the whole
fi
.venv/bin/python -m ruff check .
.venv/bin/python -m mypy
# shellcheck disable=SC2086
exec .venv/bin/python -m pytest $side_by_side $coverage -m "$slow" "$@"
