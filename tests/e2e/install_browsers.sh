#!/bin/sh
# Installs Debian's or Ubuntu's Chromium and Debian's Firefox for the browser tests. Where that is impossible it says why
# and succeeds: the tests of that browser are then skipped, with the same reason.
set -eu

missing=""
command -v chromium >/dev/null 2>&1 || missing="chromium"
command -v firefox-esr >/dev/null 2>&1 || command -v firefox >/dev/null 2>&1 || missing="$missing firefox-esr"
if [ -z "$missing" ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing, and not to be installed without root and apt-get: $missing. Tests in these browsers will be skipped." >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || true
for browser in $missing; do
    apt-get install -y -qq --no-install-recommends "$browser" fonts-dejavu-core >/dev/null ||
        echo "apt-get could not install $browser: tests in it will be skipped." >&2
done
