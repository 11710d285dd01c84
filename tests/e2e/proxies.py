"""The proxies before a server, run from the very files in ``deploy/``: nginx and HAProxy, each with TLS."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, NamedTuple
from urllib.parse import urlsplit

import psutil
from tests.certificates import Authority, Issued

DEPLOY = Path(__file__).parents[2] / "deploy"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Debian keeps servers where an ordinary user does not look."""

NGINX_MAIN = """
user {user};
worker_processes 1;
pid nginx.pid;
error_log error.log info;
events {{ worker_connections 1024; }}
http {{
    # As Debian has it, so far as it matters to what is included.
    sendfile on;
    tcp_nopush on;
    ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
    ssl_prefer_server_ciphers on;
    gzip on;
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    include restante.conf;
}}
"""
HAPROXY_MAIN = """
global
    maxconn 2000
    log stdout format raw local0
defaults
    mode http
    timeout connect 5000
    timeout client 50000
    timeout server 50000
"""


class Behind(NamedTuple):
    """What a proxy stands before: HOST:PORT of each listener. ``grpc`` may be empty: nothing is there."""

    restante: str
    admin: str
    grpc: str = ""


class Proxy:
    """One proxy in a folder of its own. ``address`` is HOST:PORT, where it speaks TLS."""

    name: ClassVar[str]

    def __init__(
        self,
        folder: Path,
        behind: Behind,
        server: Issued,
        client_authority: Authority | None = None,
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self._behind = behind._replace(grpc=behind.grpc or f"127.0.0.1:{free_port()}")
        self._server = server
        self._client_authority = client_authority
        self._write()

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    def check(self) -> str:
        """What the program itself says of its files; fails when they are wrong."""
        return self._run(self._checks())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it in the foreground, from the first connection that it takes."""
        with (self.folder / "log").open("w") as log:
            self._process = process = subprocess.Popen(
                self._command(),
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._environment(),
            )
        try:
            while not self._takes_connections():
                assert process.poll() is None, self.log()
            yield
        finally:
            process.terminate()
            process.wait(20)

    def ways_to(self, address: tuple[str, int]) -> int:
        """How many connections it holds to that address."""
        process = psutil.Process(self._process.pid)
        return sum(
            tuple(connection.raddr) == address and connection.status == psutil.CONN_ESTABLISHED
            for one in (process, *process.children())
            for connection in one.net_connections("tcp")
        )

    def log(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("*log"))

    def _write(self) -> None:
        raise NotImplementedError

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _checks(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return {"PATH": PATH}

    def _run(self, command: list[str]) -> str:
        told = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout + told.stderr

    def _takes_connections(self) -> bool:
        host, _, port = self.address.partition(":")
        try:
            socket.create_connection((host, int(port)), 5).close()
        except ConnectionRefusedError:
            return False
        return True


class Nginx(Proxy):
    name = "nginx"

    def _write(self) -> None:
        main = NGINX_MAIN.format(user=pwd.getpwuid(os.getuid()).pw_name)
        (self.folder / "nginx.conf").write_text(main)
        names = {
            "NAME": "127.0.0.1",
            "LISTEN": self.address,
            "CERTIFICATE": str(self._server.certificate),
            "KEY": str(self._server.key),
            "RESTANTE": self._behind.restante,
            "GRPC": self._behind.grpc,
        }
        files = ["restante.conf"]
        if self._client_authority is not None:
            names["CLIENT_AUTHORITY"] = str(self._client_authority.file)
            files.append("restante-client-certificates.conf")
        for file in files:
            template = (DEPLOY / "nginx" / file).read_text()
            (self.folder / file).write_text(filled_in(template, names))

    def _command(self) -> list[str]:
        return [program("nginx"), "-p", ".", "-c", "nginx.conf", "-g", "daemon off;"]

    def _checks(self) -> list[str]:
        return [program("nginx"), "-p", ".", "-c", "nginx.conf", "-t"]


class HAProxy(Proxy):
    name = "haproxy"

    def _write(self) -> None:
        (self.folder / "haproxy.cfg").write_text(HAPROXY_MAIN)
        both = self._server.certificate.read_bytes() + self._server.key.read_bytes()
        (self.folder / "server.pem").write_bytes(both)

    def _files(self) -> list[str]:
        return ["-f", "haproxy.cfg", "-f", str(DEPLOY / "haproxy" / "restante.cfg")]

    def _command(self) -> list[str]:
        return [program("haproxy"), "-db", *self._files()]

    def _checks(self) -> list[str]:
        # -dW: a warning is an error.
        return [program("haproxy"), "-c", "-dW", *self._files()]

    def _environment(self) -> dict[str, str]:
        admin_host, _, admin_port = self._behind.admin.partition(":")
        authority = self._client_authority
        return {
            **super()._environment(),
            "RESTANTE_BIND": self.address,
            "RESTANTE_CERTIFICATE": str(self.folder / "server.pem"),
            "RESTANTE_SERVER": self._behind.restante,
            "RESTANTE_GRPC": self._behind.grpc,
            "RESTANTE_ADMIN_HOST": admin_host,
            "RESTANTE_ADMIN_PORT": admin_port,
            **({} if authority is None else {"RESTANTE_CLIENT_AUTHORITY": str(authority.file)}),
        }


PROXIES: tuple[type[Proxy], ...] = (Nginx, HAProxy)


def filled_in(template: str, names: Mapping[str, str]) -> str:
    """A file of ``deploy/nginx`` with what stands for each of its names; every one of them has to be given."""
    return re.sub(r"@@([A-Z_]+)@@", lambda found: names[found[1]], template)


def program(name: str) -> str:
    found = shutil.which(name, path=PATH)
    assert found is not None, f"{name} is missing: it is one of the Makefile's TEST_PACKAGES"
    return found


def free_port() -> int:
    """A port that is free now. These proxies cannot be given a listening socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def address_of(url: str) -> str:
    return urlsplit(url).netloc
