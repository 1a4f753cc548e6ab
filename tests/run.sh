#!/usr/bin/env bash
# Installs what is needed, builds, runs every test and closes with "N passed, N failed, N skipped".
#
#   tests/run.sh                    everything: lint, release, asan, tsan, end to end
#   tests/run.sh release            unit tests of one preset (release, asan, tsan; several may be named)
#   tests/run.sh lint python        the format check; the Python suites against the release binary
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
stages=("$@")
((${#stages[@]})) || stages=(lint release python asan tsan)

cache=${HYSPARSE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hysparse}
results=$root/build/test-results
rm -rf "$results" && mkdir -p "$results" "$cache"
# ccache hits across clones and build folders: paths are hashed relative to the checkout.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1

# A stage that cannot even start is a failed test, not a silent gap.
fail() {
  echo "FAILED: $1: $2" >&2
  printf '<testsuite name="%s"><testcase classname="run.sh" name="%s"><failure message="%s"/></testcase></testsuite>\n' \
    "$1" "$1" "$2" >"$results/$1.failed.xml"
}

log() { printf '\n== %s (%ds)\n' "$1" "$SECONDS"; }

virtual_environment() {
  venv=$cache/venv-$(sha256sum tests/requirements.txt models/requirements.txt 2>/dev/null | sha256sum | cut -c1-12)
  [[ -f $venv/ready ]] && return
  rm -rf "$venv" && python3 -m venv "$venv" &&
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt && touch "$venv/ready"
}

build() {
  local preset=$1; shift
  cmake --preset "$preset" -DHYSPARSE_TESTS=ON >"$results/$preset.configure.log" 2>&1 || { tail -30 "$results/$preset.configure.log"; return 1; }
  cmake --build --preset "$preset" "$@" >"$results/$preset.build.log" 2>&1 || { grep -E 'error|FAILED' -A5 "$results/$preset.build.log" | tail -60; return 1; }
}

# One test binary; a report is left behind even by a crash.
unit_test() {
  local preset=$1 binary=$2 name
  name=$(basename "$binary")
  timeout 900 "$binary" --gtest_brief=1 --gtest_output="xml:$results/$preset.$name.xml" >"$results/$preset.$name.log" 2>&1 && return
  tail -40 "$results/$preset.$name.log"
  [[ -s $results/$preset.$name.xml ]] || fail "$preset.$name" "ended without a report"
}

export results
export -f fail unit_test

unit_tests() {
  local preset=$1
  log "$preset: build"
  build "$preset" --target unit_tests || { fail "$preset.build" "the $preset preset does not build"; return; }
  log "$preset: unit tests"
  printf '%s\n' build/"$preset"/tests/*_test | xargs -P2 -I{} bash -c 'unit_test "$@"' - "$preset" {}
}

python_tests() {
  log "python: build, environment, models"
  build release || { fail python.build "the release preset does not build"; return; }
  virtual_environment || { fail python.environment "tests/requirements.txt could not be installed"; return; }
  local model
  for model in smollm2-135m smollm2-135m-hysparse smollm2-135m-swa hysparse-mini; do
    models/get.sh $model || { fail python.model "models/get.sh $model failed"; return; }
  done
  log "python: tests"
  HYSPARSE_BUILD=$root/build/release timeout 2400 "$venv/bin/python" -m pytest tests -q -p no:cacheprovider --durations=40 \
    --junitxml="$results/python.xml" || [[ -s $results/python.xml ]] || fail python "pytest ended without a report"
}

deploy/install-deps.sh --dev || { echo "the packages could not be installed" >&2; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
export ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1"
for stage in "${stages[@]}"; do
  case $stage in
    lint) log lint; tests/lint.sh || fail lint "tests/lint.sh found something" ;;
    release | asan | tsan) unit_tests "$stage" ;;
    python) python_tests ;;
    *) echo "tests/run.sh: unknown stage '$stage'; one of lint, release, asan, tsan, python" >&2; exit 2 ;;
  esac
done
log summary
python3 tests/summary.py "$results"
