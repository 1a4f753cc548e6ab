#!/usr/bin/env bash
# The base with a recipe's committed differences. Run by recipe.sh, with the PYTHON and BASE that models/get.sh sets:
# apply.sh RECIPE FOLDER
set -euo pipefail
deltas=$(cd "$1" && pwd)/deltas.safetensors
if ! (cd "$1" && sha256sum --check --status deltas.sha256) 2>/dev/null; then
  echo "models/get.sh: $deltas is missing or damaged: git checkout -- $deltas" >&2
  exit 1
fi
exec "$PYTHON" "$(dirname "${BASH_SOURCE[0]}")/export.py" merge "$BASE" "$deltas" "$2"
