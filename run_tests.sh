#!/usr/bin/env bash
# All checks: makes .venv, installs, runs ruff and pytest. `--slow` adds the long tests; other arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/environment.sh
prepare_environment "" "[dev]"
slow="not slow"
if [ "${1:-}" = "--slow" ]; then slow=""; shift; fi
.venv/bin/python -m ruff check .
exec .venv/bin/python -m pytest -m "$slow" --cov --cov-report=term --cov-fail-under=85 "$@"
