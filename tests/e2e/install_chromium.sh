#!/bin/sh
# Installs Debian's or Ubuntu's Chromium for the browser tests. Where that is impossible it says why and succeeds:
# the browser tests are then skipped, with the same reason.
set -eu

if command -v chromium >/dev/null 2>&1; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "Chromium is missing and cannot be installed without root and apt-get: browser tests will be skipped." >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; then
    exit 0
fi
echo "apt-get could not install Chromium: browser tests will be skipped." >&2
