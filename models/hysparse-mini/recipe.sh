#!/usr/bin/env bash
# hysparse-mini, whose files lie beside this one: copies those that SHA256SUMS names. Run by models/get.sh: recipe.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
partial=$(dirname "$1")/.$(basename "$1").partial-$$
trap 'rm -rf "$partial"' EXIT
mkdir "$partial"
cut -c67- "$here/SHA256SUMS" | while read -r file; do cp "$here/$file" "$partial/"; done
mv "$partial" "$1"
