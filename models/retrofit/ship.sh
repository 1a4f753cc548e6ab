#!/usr/bin/env bash
# Makes a trained student a prepared model: ship.sh NAME BASE DELTAS.safetensors
#
# DELTAS is what `export.py deltas` wrote, of a student of the prepared model BASE. Writes ../NAME, a recipe for ../get.sh: the
# differences, their hash, and the hashes of what they merge to. PYTHON is one with numpy (default: python3). A folder that is
# there is left alone.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [[ $# -ne 3 || $1 == */* ]]; then echo "usage: ship.sh NAME BASE DELTAS.safetensors" >&2; exit 2; fi
recipe=$here/../$1 python=${PYTHON:-python3}
if [[ -e $recipe ]]; then echo "ship.sh: models/$1 exists; remove it to make it again" >&2; exit 1; fi
base=$("$here/../get.sh" "$2")
partial=$here/../.$1.partial-$$
trap 'rm -rf "$partial"' EXIT
mkdir "$partial"
"$python" "$here/export.py" merge "$base" "$3" "$partial/merged"  # refuses what is no such file
cp "$3" "$partial/deltas.safetensors"
(cd "$partial/merged" && sha256sum -- *) >"$partial/SHA256SUMS"
rm -r "$partial/merged"
(cd "$partial" && sha256sum deltas.safetensors) >"$partial/deltas.sha256"
echo "$2" >"$partial/base"
cat >"$partial/recipe.sh" <<'END'
#!/usr/bin/env bash
# The base with the differences beside this file. Run by models/get.sh: recipe.sh FOLDER
recipe=$(dirname "${BASH_SOURCE[0]}")
exec "$recipe/../retrofit/apply.sh" "$recipe" "$1"
END
chmod +x "$partial/recipe.sh"
mv "$partial" "$recipe"
