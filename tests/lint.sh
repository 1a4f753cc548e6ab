#!/usr/bin/env bash
# Format of every C++ file; with --tidy [BASE], clang-tidy on the .cc files changed since BASE (default HEAD~1).
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files '*.cc' '*.h' | xargs clang-format --dry-run -Werror
[[ ${1:-} == --tidy ]] || exit 0

# clang-tidy wants one command per source, which a unity build has not.
cmake --preset release -B build/tidy -DCMAKE_UNITY_BUILD=OFF >/dev/null
cmake --build build/tidy --target hysparse_proto >/dev/null
git diff --name-only --diff-filter=d "${2:-HEAD~1}" -- '*.cc' | xargs -r clang-tidy -p build/tidy --quiet
