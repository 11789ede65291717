"""A real RTSP server on loopback: GStreamer's, run by the system's Python, which is where its bindings are.

    /usr/bin/python3 rtsp_server.py PORT VIDEO.mp4 [USER PASSWORD | - - CERTIFICATE KEY]

Streams the H.264 of VIDEO.mp4 as /camera, at its own pace; prints its port once it listens, and ends with its stdin.
"""

from __future__ import annotations

import sys
from typing import Any


def main(port: str, video: str, user: str = "-", password: str = "-", certificate: str = "", key: str = "") -> None:
    import gi  # type: ignore[import-not-found]

    for name in ("Gst", "GstRtsp", "GstRtspServer"):
        gi.require_version(name, "1.0")
    from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # type: ignore[import-not-found]

    Gst.init(None)
    server: Any = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory: Any = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f'( filesrc location="{video}" ! qtdemux ! rtph264pay name=pay0 config-interval=1 )')
    factory.set_shared(True)
    if user != "-" or certificate:
        auth: Any = GstRtspServer.RTSPAuth()
        token: Any = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        if certificate:
            auth.set_tls_certificate(Gio.TlsCertificate.new_from_files(certificate, key))
            auth.set_default_token(token)
        else:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(user, password, token)
        server.set_auth(auth)
        permissions: Any = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/camera", factory)
    server.attach(None)
    loop: Any = GLib.MainLoop()
    GLib.io_add_watch(sys.stdin.fileno(), GLib.PRIORITY_DEFAULT, GLib.IO_HUP | GLib.IO_IN, lambda *_: loop.quit())
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
