"""https and wss by the service itself, with a certificate made here."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from wire_client import CLICK, picture

from streamseg.client import Client
from streamseg.errors import BadSettingError, ConnectionLostError
from streamseg.service.server import Server, bind
from streamseg.settings import Settings


def make_certificate(folder: Path, password: bytes | None = None) -> dict[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "streamseg")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    locked = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    files = {"certificate": folder / "cert.pem", "key": folder / "key.pem"}
    files["certificate"].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files["key"].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    return {what: str(path) for what, path in files.items()}


def test_pages_and_websockets_are_encrypted(
    make_server: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_certificate(tmp_path)
    server = make_server(tls=files)
    assert server.url.startswith("https://127.0.0.1:")
    trust = ssl.create_default_context(cafile=files["certificate"])
    with urllib.request.urlopen(server.url, context=trust, timeout=20) as answer:
        assert b"streamseg" in answer.read()
    with pytest.raises(ConnectionLostError, match=r"not trusted.*SSL_CERT_FILE"):
        Client(server.url).segment(picture(), points_xy_px=CLICK["points_xy_px"], labels=[1])
    with pytest.raises(ConnectionLostError, match=r"if it serves https, give https://"):
        Client(server.url.replace("https://", "http://")).connect()
    with pytest.raises(ConnectionLostError, match=r"if it serves http, give http://"):
        Client(make_server().url.replace("http://", "https://")).connect()
    monkeypatch.setenv("SSL_CERT_FILE", files["certificate"])
    with Client(server.url) as client:
        result = client.segment(picture(), points_xy_px=CLICK["points_xy_px"], labels=[1])
    assert result.objects[0].object_id == 1


def test_a_client_that_speaks_no_tls_is_let_go(make_server: Callable[..., Server], tmp_path: Path) -> None:
    server = make_server(tls=make_certificate(tmp_path))

    async def go() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        return answer

    assert b"200 OK" not in asyncio.run(go())


def test_a_key_with_a_password(make_server: Callable[..., Server], tmp_path: Path) -> None:
    files = make_certificate(tmp_path, b"open sesame")
    assert make_server(tls={**files, "key_password": "open sesame"}).url.startswith("https://")
    with pytest.raises(BadSettingError, match=r"setting tls:"):
        bind(Settings(port=0, tls=files))


def test_files_that_are_no_certificate_are_one_clear_line(tmp_path: Path) -> None:
    files = make_certificate(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    for tls, match in (
        ({"certificate": str(tmp_path / "none.pem")}, "does not exist"),
        ({"certificate": str(text)}, "cannot be used"),
        ({"certificate": files["certificate"], "key": make_certificate(other)["key"]}, "belong together"),
        ({"key": files["key"]}, "certificate"),
    ):
        with pytest.raises(BadSettingError, match=match) as caught:
            bind(Settings(port=0, tls=tls))
        assert "\n" not in caught.value.message
