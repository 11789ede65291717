#!/bin/sh
# Installs a Debian or Ubuntu package for the browser tests: chromium or firefox-esr. Where that is impossible it says why
# and succeeds: the tests of that browser are then skipped, with the same reason.
set -eu

browser=$1
if command -v "$browser" >/dev/null 2>&1 || command -v "${browser%-esr}" >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "$browser is missing, and not to be installed without root and apt-get. Tests in it will be skipped." >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || true
apt-get install -y -qq --no-install-recommends "$browser" fonts-dejavu-core >/dev/null ||
    echo "apt-get could not install $browser: tests in it will be skipped." >&2
