#!/usr/bin/env bash
# From an empty machine to a talking Tatar model: makes .venv, installs, runs every stage.
# Arguments go to `tatar-llm run`, for example: bash run_pipeline.sh --minutes 20 --source my_texts/
set -euo pipefail
cd "$(dirname "$0")"
. scripts/environment.sh
prepare_environment "transformers>=5.0" ""
if [ "$#" -eq 0 ]; then set -- --minutes 5; fi
exec .venv/bin/python -m tatar_llm run "$@"
