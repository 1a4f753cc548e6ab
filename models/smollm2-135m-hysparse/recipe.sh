#!/usr/bin/env bash
# The base with the differences beside this file. Run by models/get.sh: recipe.sh FOLDER
recipe=$(dirname "${BASH_SOURCE[0]}")
exec "$recipe/../retrofit/apply.sh" "$recipe" "$1"
