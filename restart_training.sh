#!/usr/bin/env bash
# Go on with the last run from its last checkpoint. Takes the flags of `tatar-llm train --resume`.
set -euo pipefail
cd "$(dirname "$0")"
for python in .venv/bin/python venv/bin/python .venv/Scripts/python.exe venv/Scripts/python.exe; do
  if [ -x "$python" ]; then exec "$python" -m tatar_llm train --resume "$@"; fi
done
exec python3 -m tatar_llm train --resume "$@"
