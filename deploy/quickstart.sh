#!/usr/bin/env bash
# From a bare Debian 12 machine to a served model: installs what is needed, builds, prepares MODEL, serves it on :8000 and says
# what to try. A second run skips what is done.
#
#   deploy/quickstart.sh [MODEL] [PORT] [flags of `hysparse serve`]
#
# MODEL is a name that models/get.sh knows; default: smollm2-135m-hysparse, SmolLM2-135M-Instruct made a HySparse model.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
model=smollm2-135m-hysparse
port=8000
if [[ ${1:--} != -* && ! ${1:-} =~ ^[0-9]+$ ]]; then model=$1; shift; fi
if [[ ${1:-} =~ ^[0-9]+$ ]]; then port=$1; shift; fi

step() { printf '\n== %s\n' "$1" >&2; }
taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Both said now rather than after a build.
if [[ ! -x models/$model/recipe.sh ]]; then models/get.sh "$model"; fi  # says which names there are
if taken "$port"; then
  echo "deploy/quickstart.sh: port $port is in use; name another: deploy/quickstart.sh 8001" >&2
  exit 1
fi

step "packages"
deploy/install-deps.sh >&2

step "build (the first one takes some minutes)"
export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
cmake --preset release >/dev/null
cmake --build --preset release --target hysparse >&2

step "model"
models/get.sh "$model" >/dev/null
if [[ $model == smollm2-135m-hysparse ]]; then
  cat >&2 <<END
$model is SmolLM2-135M-Instruct retrofitted to HySparse. deploy/quickstart.sh smollm2-135m serves the original,
deploy/quickstart.sh smollm2-135m-swa the same retrofit with sliding windows in place of sparse layers.
END
fi

printf '\n== serving %s on http://localhost:%s (Ctrl-C stops it); from another terminal, try:\n\n' "$model" "$port" >&2
if [[ $model == hysparse-mini ]]; then  # it knows no prose
  cat >&2 <<END
python3 -m venv /tmp/mini && /tmp/mini/bin/pip install -q numpy && /tmp/mini/bin/python models/mini/ask.py http://localhost:$port

END
else
  cat >&2 <<END
curl -s localhost:$port/v1/chat/completions -H 'content-type: application/json' \\
  -d '{"model": "$model", "messages": [{"role": "user", "content": "What is photosynthesis?"}], "temperature": 0, "max_tokens": 80}'

python3 -m venv /tmp/openai && /tmp/openai/bin/pip install -q openai && /tmp/openai/bin/python - <<'PYTHON'
from openai import OpenAI
client = OpenAI(base_url="http://localhost:$port/v1", api_key="unused")
for chunk in client.chat.completions.create(model="$model", stream=True, temperature=0, max_tokens=80,
        messages=[{"role": "user", "content": "Give me three tips for a good night's sleep."}]):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
PYTHON

END
fi
grpc=9000
if taken "$grpc"; then grpc=off; fi
exec build/release/bin/hysparse serve "$model" --port "$port" --grpc-port "$grpc" "$@"
