#!/usr/bin/env bash
# Format of every C++ file; with --tidy [BASE], clang-tidy on the .cc files changed since BASE (default HEAD~1).
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files '*.cc' '*.h' | xargs clang-format --dry-run -Werror
[[ ${1:-} == --tidy ]] || exit 0
git diff --name-only --diff-filter=d "${2:-HEAD~1}" -- '*.cc' | xargs -r clang-tidy -p build/release --quiet
