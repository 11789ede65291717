#!/bin/sh
# Installs GStreamer's RTSP server of Debian or Ubuntu, with its bindings for the system's Python, for the tests of
# network cameras. Where that is impossible it says why and succeeds: those tests are then skipped, with the same reason.
set -eu

has_server() {
    [ -x /usr/bin/python3 ] && /usr/bin/python3 - >/dev/null 2>&1 <<'PYTHON'
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer
Gst.init(None)
assert all(Gst.ElementFactory.find(name) for name in ("qtdemux", "rtph264pay"))
PYTHON
}

if has_server; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "GStreamer's RTSP server cannot be installed without root and apt-get: tests of RTSP will be skipped." >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
if apt-get update -qq && apt-get install -y -qq --no-install-recommends \
    gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good >/dev/null && has_server; then
    exit 0
fi
echo "apt-get could not install GStreamer's RTSP server: tests of RTSP will be skipped." >&2
