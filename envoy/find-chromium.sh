#!/bin/sh
# Prints the paths of a chromedriver and of the Chromium that it drives, one per line, in this order:
#   1. $CHROMEDRIVER and $CHROMIUM; either may be left out when the other program is on the PATH
#   2. chromedriver and chromium (or google-chrome) on the PATH
#   3. the same after apt-get has installed Debian's packages, which needs root
# With --at-hand it installs nothing: without a Chromium it prints nothing and fails.
set -eu

fail() {
    echo "find-chromium: $*; supply one with CHROMEDRIVER=/path/to/chromedriver CHROMIUM=/path/to/chromium" >&2
    exit 1
}

# Prints the absolute path of a program.
program() {
    found=$(command -v -- "$1") || return 1
    case $found in
    /*) echo "$found" ;;
    *) echo "$PWD/$found" ;;
    esac
}

# Prints the path of the first of several programs that exists.
first_of() {
    for name in "$@"; do
        program "$name" && return 0
    done
    return 1
}

driver() {
    if [ -n "${CHROMEDRIVER:-}" ]; then
        program "$CHROMEDRIVER" || fail "CHROMEDRIVER is '$CHROMEDRIVER', which is no program"
    else
        first_of chromedriver
    fi
}

browser() {
    if [ -n "${CHROMIUM:-}" ]; then
        program "$CHROMIUM" || fail "CHROMIUM is '$CHROMIUM', which is no program"
    else
        first_of chromium chromium-browser google-chrome google-chrome-stable
    fi
}

# Prints both paths, or nothing when one of the programs is not there.
both() {
    chromedriver=$(driver) && chromium=$(browser) && printf '%s\n%s\n' "$chromedriver" "$chromium"
}

# The package lists of a fresh image are empty or old, so a first failure is tried again with new ones.
install() {
    command -v apt-get >/dev/null || fail "there is no Chromium with a chromedriver on this machine, and no apt-get to install one"
    [ "$(id -u)" = 0 ] || fail "there is no Chromium with a chromedriver on this machine, and only root can install one with apt-get"
    echo "find-chromium: installing the packages chromium and chromium-driver" >&2
    export DEBIAN_FRONTEND=noninteractive
    packages="chromium chromium-driver"
    # shellcheck disable=SC2086 # These are two words.
    apt-get install --yes --quiet --no-install-recommends $packages >&2 ||
        { apt-get update --quiet >&2 && apt-get install --yes --quiet --no-install-recommends $packages >&2; } ||
        fail "apt-get cannot install the packages chromium and chromium-driver"
}

# A wrong CHROMEDRIVER or CHROMIUM is an error, and no reason to install something else.
for given in "${CHROMEDRIVER:-}" "${CHROMIUM:-}"; do
    [ -z "$given" ] || program "$given" >/dev/null || fail "'$given' is no program"
done

if both; then
    :
elif [ "${1:-}" = --at-hand ]; then
    exit 1
else
    install
    both || fail "the packages chromium and chromium-driver brought no chromedriver or no chromium"
fi
