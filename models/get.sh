#!/usr/bin/env bash
# Prepares a model by its recipe and prints the folder: models/get.sh smollm2-135m
#
# Models live outside the tree, in ${HYSPARSE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/hysparse}/models/NAME, where `hysparse serve
# NAME` finds them. A folder whose files match the recipe's SHA256SUMS is left as it is, anything else is made again; a
# download is kept and not repeated. A recipe with a file `base` starts from the model named there, which is prepared first.
# Needs python3 with its venv module.
set -euo pipefail
recipes=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
name=${1:-}
if [[ $# -ne 1 || $name == */* || ! -x $recipes/$name/recipe.sh ]]; then
  echo "usage: models/get.sh NAME, where NAME is one of:" >&2
  for recipe in "$recipes"/*/recipe.sh; do basename "$(dirname "$recipe")" >&2; done
  exit 2
fi
cache=${HYSPARSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hysparse}
folder=$cache/models/$name
mkdir -p "$cache/models" "$cache/downloads"

matches() { [[ -d $folder ]] && (cd "$folder" && sha256sum --check --status "$recipes/$name/SHA256SUMS") 2>/dev/null; }
if matches; then echo "$folder"; exit 0; fi

# By a run of its own, before this one takes the lock.
base=
if [[ -f $recipes/$name/base ]]; then base=$("$recipes/get.sh" "$(<"$recipes/$name/base")"); fi

exec 9>"$cache/models/.lock"
flock 9  # one at a time: what a killed run left half-made is nobody's, and is removed
if matches; then echo "$folder"; exit 0; fi
rm -rf "$cache/models/.$name.partial-"* "$folder"

# One that downloads (requirements.txt) or merges (base) gets Python; any other needs no network.
venv=$cache/venv-models-$(sha256sum "$recipes/requirements.txt" | cut -c1-12)
if [[ (-f $recipes/$name/requirements.txt || -n $base) && ! -f $venv/ready ]]; then
  rm -rf "$venv"
  python3 -m venv "$venv" || { echo "models/get.sh: python3 has no venv module: run deploy/install-deps.sh" >&2; exit 1; }
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$recipes/requirements.txt" >&2
  touch "$venv/ready"
fi

echo "preparing $name" >&2
PYTHON=$venv/bin/python DOWNLOADS=$cache/downloads BASE=$base "$recipes/$name/recipe.sh" "$folder" >&2
if ! matches; then
  wrong=$(cd "$folder" && sha256sum --check --quiet "$recipes/$name/SHA256SUMS" 2>/dev/null | cut -d: -f1 | paste -sd' ') || true
  echo "models/get.sh: $wrong of the prepared $name is not what models/$name/SHA256SUMS says; it is removed" >&2
  rm -rf "$folder"
  exit 1
fi
echo "$folder"
