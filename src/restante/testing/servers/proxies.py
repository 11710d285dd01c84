"""The proxies before one node or several, run from the very files in ``deploy/``: nginx and HAProxy, each with TLS."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from restante.bench.processes import Server, ServerFailed, accepts_connections, free_port

DEPLOY: Final = Path(__file__).parents[4] / "deploy"
"""It is in the project's folder, and in no installed package."""
PATH: Final = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
"""Debian keeps servers where an ordinary user does not look."""

NGINX_MAIN: Final = """
user {user};
worker_processes 1;
pid nginx.pid;
error_log error.log info;
events {{ worker_connections 4096; }}
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
HAPROXY_MAIN: Final = """
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
    """A node that a proxy stands before: HOST:PORT of each listener. ``grpc`` may be empty: nothing is there."""

    restante: str
    admin: str
    grpc: str = ""


class Issued(Protocol):
    """A certificate with its chain, and its key, in two files."""

    @property
    def certificate(self) -> Path: ...

    @property
    def key(self) -> Path: ...


class Plain(NamedTuple):
    """HOST:PORT where a proxy takes connections without TLS, the second for gRPC."""

    http: str
    grpc: str


class Proxy:
    """One proxy in a folder of its own. ``address`` is HOST:PORT, where it speaks TLS."""

    name: ClassVar[str]

    def __init__(
        self,
        folder: Path,
        behind: Sequence[Behind],
        server: Issued,
        client_authority: Path | None = None,
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self._behind = [
            node._replace(grpc=node.grpc or f"127.0.0.1:{free_port()}") for node in behind
        ]
        self._server = server
        self._client_authority = client_authority
        self._write()

    @property
    def url(self) -> str:
        return f"https://{self.address}"

    def check(self) -> str:
        """What the program itself says of its files. Raises ``ServerFailed`` where they are wrong."""
        told = subprocess.run(
            self._checks(),
            cwd=self.folder,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        if told.returncode:
            raise ServerFailed(told.stdout + told.stderr)
        return told.stdout + told.stderr

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it in the foreground, from the first connection that it takes."""
        server = Server(
            self.name,
            self._command(),
            log=self.folder / "log",
            environment=self._environment(),
            directory=self.folder,
        )
        self.pid = server.pid
        try:
            server.wait_until(lambda: accepts_connections(int(self.address.rpartition(":")[2])))
            yield
        finally:
            server.stop()

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


class Nginx(Proxy):
    """Listens without TLS too, at ``plain``."""

    name = "nginx"

    def _write(self) -> None:
        self.plain = Plain(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
        main = NGINX_MAIN.format(user=pwd.getpwuid(os.getuid()).pw_name)
        (self.folder / "nginx.conf").write_text(main)
        names = {
            "NAME": "127.0.0.1",
            "LISTEN": self.address,
            "CERTIFICATE": str(self._server.certificate),
            "KEY": str(self._server.key),
            "PLAIN": self.plain.http,
            "PLAIN_GRPC": self.plain.grpc,
        }
        files = ["restante.conf", "restante-plain.conf"]
        if self._client_authority is not None:
            names["CLIENT_AUTHORITY"] = str(self._client_authority)
            files.append("restante-client-certificates.conf")
        for file in files:
            template = (DEPLOY / "nginx" / file).read_text()
            text = filled_in(for_each_node(template, self._behind), names)
            (self.folder / file).write_text(text)

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
        told = {
            **super()._environment(),
            "RESTANTE_BIND": self.address,
            "RESTANTE_CERTIFICATE": str(self.folder / "server.pem"),
        }
        for number, node in enumerate(self._behind, 1):
            suffix = "" if number == 1 else f"_{number}"
            admin_host, _, admin_port = node.admin.partition(":")
            told |= {
                f"RESTANTE_SERVER{suffix}": node.restante,
                f"RESTANTE_GRPC{suffix}": node.grpc,
                f"RESTANTE_ADMIN_HOST{suffix}": admin_host,
                f"RESTANTE_ADMIN_PORT{suffix}": admin_port,
            }
        if self._client_authority is not None:
            told["RESTANTE_CLIENT_AUTHORITY"] = str(self._client_authority)
        return told


PROXIES: Final[tuple[type[Proxy], ...]] = (Nginx, HAProxy)


def for_each_node(template: str, behind: Sequence[Behind]) -> str:
    """A file of ``deploy/nginx`` with its lines for a node repeated, and filled in, for each."""
    return re.sub(
        r"^( +server )@@(RESTANTE|GRPC)@@(.*\n)",
        lambda found: "".join(
            f"{found[1]}{node.restante if found[2] == 'RESTANTE' else node.grpc}{found[3]}"
            for node in behind
        ),
        template,
        flags=re.MULTILINE,
    )


def filled_in(template: str, names: Mapping[str, str]) -> str:
    """A file of ``deploy/nginx`` with what stands for each of its names; every one of them has to be given."""
    return re.sub(r"@@([A-Z_]+)@@", lambda found: names[found[1]], template)


def program(name: str) -> str:
    """The path of a server's program. Raises ``ServerFailed`` where it is not installed."""
    found = shutil.which(name, path=PATH)
    if found is None:
        raise ServerFailed(f"{name} is not installed: apt-get install {name}")
    return found


def address_of(url: str) -> str:
    """HOST:PORT of a URL."""
    return urlsplit(url).netloc
