#!/usr/bin/env bash
# Installs the Debian 12 packages that building (default) or running (--runtime) hysparse needs; --dev adds what the tests
# and the developer's loop use. Does nothing, quickly, when everything is there. Asks for root through sudo if it must.
set -euo pipefail

runtime=(libgrpc++1.51 libgrpc29 libprotobuf32 libprometheus-cpp-core1.0 libdnnl2 libabsl20220623 libspdlog1.10 libyaml-cpp0.7
         libpcre2-8-0 libutf8proc2 libssl3 ca-certificates)
build=(g++ cmake ninja-build ccache pkg-config git libgrpc++-dev grpc-proto libprotobuf-dev protobuf-compiler protobuf-compiler-grpc
       libboost-dev prometheus-cpp-dev libabsl-dev nlohmann-json3-dev libcli11-dev libyaml-cpp-dev libspdlog-dev libdnnl-dev
       libpcre2-dev libutf8proc-dev libssl-dev zlib1g-dev libgtest-dev libgmock-dev python3 python3-venv python3-pip
       ca-certificates curl)
dev=(clang-format clang-tidy openssl)

case "${1:-}" in
  "") wanted=("${build[@]}") ;;
  --runtime) wanted=("${runtime[@]}") ;;
  --dev) wanted=("${build[@]}" "${dev[@]}") ;;
  *) echo "usage: $0 [--runtime | --dev]" >&2; exit 2 ;;
esac

missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || { echo "$0: missing packages: ${missing[*]}; run this as root or install sudo" >&2; exit 1; }
  as_root=(sudo)
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
