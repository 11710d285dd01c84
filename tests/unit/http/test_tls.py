"""Certificates and keys: what is refused, and which a connection is made with."""

from __future__ import annotations

import ssl

import pytest
from cryptography.hazmat.primitives import serialization
from tests.certificates import DAY, Authority, Issued

from restante.errors import ConfigurationError
from restante.http.tls import ServerContext, TlsFiles, read


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def issued(authority):
    return authority.for_server("restante.example")


def files(issued: Issued, **others) -> TlsFiles:
    return TlsFiles(certificate=issued.certificate, key=issued.key, **others)


class Handshake:
    """A client and a server that talk through memory until both are content."""

    def __init__(
        self,
        context: ssl.SSLContext,
        client: ssl.SSLContext,
        session: ssl.SSLSession | None = None,
    ) -> None:
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = context.wrap_bio(up, down, server_side=True)
        self.client = client.wrap_bio(down, up, server_hostname="restante.example", session=session)
        waiting = [self.client, self.server]
        while waiting:
            for side in list(waiting):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                waiting.remove(side)
        # TLS 1.3: the client is content before the server has looked at its certificate.
        self.server.write(b"hello")
        assert self.client.read(5) == b"hello"

    @property
    def seen(self) -> list[str]:
        certificate = self.client.getpeercert()
        assert certificate is not None
        # Pairs of type and value, whatever the stubs make of it.
        return [str(name[1]) for name in certificate["subjectAltName"]]


def client_of(authority: Authority, shown: Issued | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


def refusal(files: TlsFiles) -> str:
    with pytest.raises(ConfigurationError) as refused:
        ServerContext(files)
    return refused.value.detail


# -- what is in the files -----------------------------------------------------------------------


def test_what_was_read_is_what_stands_there(authority, issued):
    pem = read(files(issued, client_authority=authority.file))
    assert pem.certificate == issued.certificate.read_bytes()
    assert pem.key == issued.key.read_bytes()
    assert pem.client_authority == authority.file.read_bytes()
    assert read(files(issued)).client_authority is None


@pytest.mark.parametrize("which", ["certificate", "key", "client_authority"])
def test_a_file_that_is_not_there_is_named(authority, issued, tmp_path, which):
    gone = tmp_path / "gone.pem"
    named = {"client_authority": authority.file, **issued._asdict(), which: gone}
    told = refusal(TlsFiles(**named))
    assert told == f"cannot read {gone}: No such file or directory"


@pytest.mark.parametrize("which", ["certificate", "key", "client_authority"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nxyz"])
def test_a_file_that_holds_something_else_is_named(authority, issued, tmp_path, which, content):
    other = tmp_path / "other.pem"
    other.write_bytes(content)
    named = {"client_authority": authority.file, **issued._asdict(), which: other}
    told = refusal(TlsFiles(**named))
    assert str(other) in told
    assert "in PEM" in told


def test_the_key_of_another_certificate_is_refused(authority, issued):
    other = authority.for_server("other.example", file="other")
    told = refusal(TlsFiles(certificate=issued.certificate, key=other.key))
    assert told == f"{other.key} is not the key of the certificate in {issued.certificate}"


def test_a_key_with_a_pass_phrase_is_refused_and_nobody_is_asked_for_it(issued):
    key = serialization.load_pem_private_key(issued.key.read_bytes(), None)
    issued.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    assert refusal(files(issued)) == f"the key in {issued.key} is protected by a pass phrase"


# -- connections --------------------------------------------------------------------------------


def test_a_connection_is_made(authority, issued):
    made = Handshake(ServerContext(files(issued)), client_of(authority))
    assert made.client.version() == "TLSv1.3"
    assert made.seen == ["restante.example"]


def test_tls_before_1_2_is_refused(authority, issued):
    client = client_of(authority)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        client.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="deprecated"):
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    # The client's own library would not offer it any more.
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="UNSUPPORTED_PROTOCOL"):
        Handshake(ServerContext(files(issued)), client)


def test_http_1_1_is_what_is_spoken(authority, issued):
    client = client_of(authority)
    client.set_alpn_protocols(["h2", "http/1.1"])
    made = Handshake(ServerContext(files(issued)), client)
    assert made.client.selected_alpn_protocol() == "http/1.1"


def test_renewed_files_are_for_the_connections_after_it(authority, issued):
    context = ServerContext(files(issued))
    first = Handshake(context, client_of(authority))
    authority.for_server("restante.example", "new.example")
    assert Handshake(context, client_of(authority)).seen == ["restante.example"]
    context.renew()
    assert Handshake(context, client_of(authority)).seen == ["restante.example", "new.example"]
    first.server.write(b"still here")
    assert first.client.read(20) == b"still here"


def test_broken_files_leave_the_old_ones_in_use(authority, issued):
    context = ServerContext(files(issued))
    issued.key.write_text("half a fi")
    with pytest.raises(ConfigurationError, match=r"server\.key holds no private key"):
        context.renew()
    assert Handshake(context, client_of(authority)).seen == ["restante.example"]


# -- clients' certificates ----------------------------------------------------------------------


def test_without_an_authority_no_certificate_is_asked_for(authority, issued):
    shown = authority.for_client("dns:backend.acme.example")
    made = Handshake(ServerContext(files(issued)), client_of(authority, shown))
    assert made.server.getpeercert(binary_form=True) is None


def test_with_an_authority_a_certificate_may_be_shown(authority, issued):
    context = ServerContext(files(issued, client_authority=authority.file))
    shown = authority.for_client("dns:backend.acme.example")
    made = Handshake(context, client_of(authority, shown))
    assert made.server.getpeercert(binary_form=True) == shown.der
    assert Handshake(context, client_of(authority)).server.getpeercert(binary_form=True) is None


def test_a_certificate_can_be_asked_of_everyone(authority, issued):
    context = ServerContext(files(issued, client_authority=authority.file, client_required=True))
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        Handshake(context, client_of(authority))
    Handshake(context, client_of(authority, authority.for_client("dns:a.example")))


def test_a_certificate_of_somebody_else_or_out_of_its_time_is_refused(authority, issued, tmp_path):
    context = ServerContext(files(issued, client_authority=authority.file))
    stranger = Authority(tmp_path, "stranger").for_client("dns:backend.acme.example")
    old = authority.for_client("dns:a.example", file="old", valid=(-2 * DAY, -DAY))
    early = authority.for_client("dns:a.example", file="early", valid=(DAY, 2 * DAY))
    for shown in (stranger, old, early):
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            Handshake(context, client_of(authority, shown))


def test_one_certificate_alone_may_be_its_own_authority(authority, issued, tmp_path):
    """Who has no authority names the very certificates that are let in."""
    pinned = Authority(tmp_path, "partner").for_client("dns:backend.acme.example")
    context = ServerContext(files(issued, client_authority=pinned.certificate))
    made = Handshake(context, client_of(authority, pinned))
    assert made.server.getpeercert(binary_form=True) == pinned.der


def test_an_authority_that_was_taken_away_lets_nobody_in_by_an_old_session(
    authority, issued, tmp_path
):
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.file.read_bytes())
    context = ServerContext(files(issued, client_authority=trusted))
    client = client_of(authority, authority.for_client("dns:backend.acme.example"))
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    session = Handshake(context, client).client.session
    assert Handshake(context, client, session).client.session_reused
    trusted.write_bytes(Authority(tmp_path, "another").file.read_bytes())
    context.renew()
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        Handshake(context, client, session)
