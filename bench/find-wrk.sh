#!/bin/sh
# Prints the path of the load generator wrk, in this order:
#   1. $WRK
#   2. wrk on the PATH
#   3. the distribution's package wrk, which is installed when that is allowed (Debian and Ubuntu, as root)
# With --at-hand it installs nothing: without a wrk it prints nothing and fails.
set -eu

fail() {
    echo "find-wrk: $*; supply one with WRK=/path/to/wrk" >&2
    exit 1
}

if [ -n "${WRK:-}" ]; then
    binary=$(command -v -- "$WRK") || fail "WRK is '$WRK', which is no program"
    case $binary in
    /*) echo "$binary" ;;
    *) echo "$PWD/$binary" ;;
    esac
    exit 0
fi
if command -v wrk; then
    exit 0
fi
[ "${1:-}" != --at-hand ] || exit 1
command -v apt-get >/dev/null ||
    fail "there is no wrk on this machine; install the package wrk of your distribution"
[ "$(id -u)" = 0 ] || fail "there is no wrk on this machine; install it with: sudo apt-get install wrk"
echo "find-wrk: installing the package wrk" >&2
{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends wrk; } >&2 ||
    fail "there is no wrk on this machine, and apt-get cannot install it"
command -v wrk || fail "the package wrk has no program of that name"
