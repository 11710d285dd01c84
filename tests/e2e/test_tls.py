"""A server that speaks TLS itself: https and wss, new certificates without a restart, and what it refuses."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.certificates import Authority, Issued
from tests.e2e.conftest import ADMIN_KEY, Service
from websockets.sync.client import connect
from websockets.typing import Subprotocol


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def issued(authority: Authority) -> Issued:
    return authority.for_server("127.0.0.1", "first.example")


@pytest.fixture
def secure(tmp_path: Path, authority: Authority, issued: Issued) -> Iterator[Service]:
    flags = ("--tls-certificate", str(issued.certificate), "--tls-key", str(issued.key))
    service = Service(tmp_path / "data", *flags, ca_file=authority.file)
    service.start()
    yield service
    assert service.end(signal.SIGTERM) == 0, service.log()
    assert "Traceback" not in service.log()


def names_shown(service: Service) -> set[str]:
    """What a new connection finds in the server's certificate."""
    context = service.trust()
    assert isinstance(context, ssl.SSLContext)
    with (
        socket.create_connection(service.address, 10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        certificate = connection.getpeercert()
        assert certificate is not None
        # (type, value), whatever the stubs make of it.
        return {str(name[1]) for name in certificate["subjectAltName"]}


def test_it_speaks_https_and_wss_and_nothing_plain(secure: Service) -> None:
    assert secure.url.startswith("https://")
    assert secure.admin_url.startswith("http://")
    with secure.caller() as admin:
        made = admin.post("/v1/clients", json={"name": "acme"}).json()
        assert admin.post("/v1/queues/acme/notifications", content=b"<a/>").status_code == 201
        context = secure.trust()
        assert isinstance(context, ssl.SSLContext)
        with connect(
            f"wss{secure.url.removeprefix('https')}/v1/queues/acme/socket",
            ssl=context,
            subprotocols=[Subprotocol("restante.v1")],
            additional_headers={"Authorization": f"Bearer {made['key']}"},
            proxy=None,
        ) as link:
            link.send('{"type": "credit", "messages": 1}')
            assert "<a/>" in str(link.recv(10))
        # A cookie made over https never goes out over anything less.
        with secure.caller(made["key"]) as client:
            assert "; Secure" in client.post("/v1/cookie").headers["set-cookie"]
    with pytest.raises(httpx.TransportError):
        httpx.get(secure.url.replace("https", "http") + "/openapi.yaml")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(secure.url + "/openapi.yaml")


def test_the_command_line_can_be_told_whom_to_trust(secure: Service, authority: Authority) -> None:
    command = [sys.executable, "-m", "restante", "queue", "list", "--url", secure.url]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RESTANTE_")}
    environment["RESTANTE_KEY"] = ADMIN_KEY
    for trusted, code in ({"SSL_CERT_FILE": str(authority.file)}, 0), ({}, 1):
        told = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env=environment | trusted,
        )
        assert told.returncode == code, told.stderr


def test_a_new_certificate_needs_no_restart_and_a_broken_one_no_care(
    secure: Service, authority: Authority, issued: Issued
) -> None:
    with secure.caller() as before:
        assert before.get("/v1/queues").status_code == 200
        assert "first.example" in names_shown(secure)
        authority.for_server("127.0.0.1", "second.example")
        os.kill(secure.pid, signal.SIGHUP)
        while "second.example" not in names_shown(secure):
            pass
        assert "tls.renewed" in secure.log()
        issued.certificate.write_text("half a certifi")
        os.kill(secure.pid, signal.SIGHUP)
        while "tls.not_renewed" not in secure.log():
            assert "second.example" in names_shown(secure)
        assert str(issued.certificate) in secure.log()
        assert "second.example" in names_shown(secure)
        # The connection of the very first certificate is the one it was.
        assert before.get("/v1/queues").status_code == 200


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_a_start_without_its_files_says_which_and_why(
    tmp_path: Path, issued: Issued, which: str
) -> None:
    named = {**issued._asdict(), which: tmp_path / "gone.pem"}
    command = [sys.executable, "-m", "restante", "serve", "--data", str(tmp_path / "data")]
    command += ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    command += ["--tls-certificate", str(named["certificate"]), "--tls-key", str(named["key"])]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RESTANTE_")}
    told = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=environment | {"RESTANTE_ADMIN_KEY": ADMIN_KEY},
    )
    assert told.returncode == 2
    assert f"cannot read {tmp_path / 'gone.pem'}: No such file" in told.stderr
    assert "Traceback" not in told.stderr
    assert not (tmp_path / "data").exists(), "nothing was begun"
