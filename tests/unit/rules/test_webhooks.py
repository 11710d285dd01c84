"""What a webhook may be: URLs, headers, bounds."""

import msgspec
import pytest

from restante.addresses import parse_networks
from restante.errors import InvalidHeader, InvalidUrl, OutOfBounds
from restante.webhooks import BOUNDS, HEADERS, URL_CHARACTERS, Webhook, check_headers, check_url

INSIDE = parse_networks(["127.0.0.0/8", "fd00::/8"])


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("https://example.com/in?a=1&b=%20", "https://example.com/in?a=1&b=%20"),
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Hooks.EXAMPLE.com/A", "https://hooks.example.com/A"),
        ("https://example.com:443/", "https://example.com:443/"),
        ("https://example.com:80/", "https://example.com:80/"),
        ("https://example.com:1024/", "https://example.com:1024/"),
        ("https://example.com:65535/", "https://example.com:65535/"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://faß.example/", "https://xn--fa-hia.example/"),
        ("https://my_host-1.example/", "https://my_host-1.example/"),
        ("https://hook/", "https://hook/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700:0::1]:8443/x", "https://[2606:4700::1]:8443/x"),
        ("https://1.example/", "https://1.example/"),
        ("https://0x7f.example/", "https://0x7f.example/"),
    ],
)
def test_urls(text, canonical):
    assert check_url(text) == canonical
    assert check_url(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "characters"),
        ("https://example.com/" + "a" * URL_CHARACTERS, "characters"),
        ("https://example.com/a b", "spaces"),
        ("https://example.com/\n", "spaces"),
        ("https://exam\tple.com/", "spaces"),
        ("https://example.com\\@evil.example/", "spaces"),
        (" https://example.com/", "spaces"),
        ("example.com/in", "https://"),
        ("//example.com/in", "https://"),
        ("ftp://example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://example.com/", "https://"),
        ("http://example.com/", "unless the operator"),
        ("http://8.8.8.8/", "unless the operator"),
        ("https://user@example.com/", "user name"),
        ("https://user:password@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://example.com#x@127.0.0.1/", "fragment"),
        ("https://example.com/#x", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://example.com/größe", "percent-encode"),
        ("https://example.com/?ä", "percent-encode"),
        ("https://example.com:0/", "port"),
        ("https://example.com:22/", "port"),
        ("https://example.com:79/", "port"),
        ("https://example.com:1023/", "port"),
        ("https://example.com:65536/", "not a URL"),
        ("https://example.com:x/", "not a URL"),
        ("https://example.com:/", "port"),
        ("https://", "name"),
        ("https:///in", "name"),
        ("https://.example.com/", "name"),
        ("https://example..com/", "name"),
        ("https://example.com./", "name"),
        ("https://-a.example/", "name"),
        ("https://a%2eb.example/", "name"),
        ("https://a,b/", "name"),
        (f"https://{'a' * 64}.example/", "name"),
        (f"https://{'a.' * 130}example/", "name"),
        ("https://\u00ad/", "name"),
        # odd spellings of 127.0.0.1, and of others
        ("https://127.1/", "192.0.2.1"),
        ("https://2130706433/", "192.0.2.1"),
        ("https://0x7f000001/", "192.0.2.1"),
        ("https://0x7f.1/", "192.0.2.1"),
        ("https://0x7f.0x0.0x0.0x1/", "192.0.2.1"),
        ("https://0177.0.0.1/", "192.0.2.1"),
        ("https://017700000001/", "192.0.2.1"),
        ("https://127.0.0.01/", "192.0.2.1"),
        ("https://127.0.0.256/", "192.0.2.1"),
        ("https://1.2.3.4.5/", "192.0.2.1"),
        ("https://0/", "192.0.2.1"),
        ("https://example.0x/", "192.0.2.1"),
        ("https://\uff11\uff12\uff17.\uff10.\uff10.\uff11/", "name"),
        ("https://127\u30020\u30020\u30021/", "name"),
        ("https://\u2460\u2461\u2466.0.0.1/", "192.0.2.1"),
        ("https://[fe80::1%25eth0]/", "zone"),
        ("https://[fe80::1%eth0]/", "zone"),
        ("https://[::1/", "not a URL"),
        ("https://[:::1]/", "not a URL"),
        # addresses that are not the Internet's
        ("https://127.0.0.1/", "loopback"),
        ("https://10.0.0.1:8443/", "private"),
        ("https://169.254.169.254/latest/meta-data", "link-local"),
        ("https://[::1]/", "loopback"),
        ("https://[::ffff:127.0.0.1]/", "loopback"),
        ("https://[::127.0.0.1]/", "IPv4-compatible"),
        ("https://[64:ff9b::7f00:1]/", "NAT64"),
        ("https://[fd00::1]/", "unique-local"),
    ],
)
def test_refused_urls(text, says):
    with pytest.raises(InvalidUrl, match=says.replace(".", r"\.").replace("[", r"\[")):
        check_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:8080/",
        "https://127.0.0.1/",
        "http://[fd00::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://hook:9000/",  # looked at when it is called
        "https://example.com/",
    ],
)
def test_what_the_operator_allows(text):
    check_url(text, INSIDE)


@pytest.mark.parametrize("text", ["http://8.8.8.8/", "http://10.0.0.1/", "https://10.0.0.1/"])
def test_what_the_operator_does_not_allow(text):
    with pytest.raises(InvalidUrl):
        check_url(text, INSIDE)


def test_headers():
    given = {"Authorization": "Bearer a b", "X-Empty": "", "x.y": "1\t2"}
    assert check_headers(given) == {"authorization": "Bearer a b", "x-empty": "", "x.y": "1\t2"}
    assert check_headers({}) == {}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Host",
            "Traceparent",
            "tracestate",
            "Content-Type",
            "content-length",
            "Content-Encoding",
            "Connection",
            "Keep-Alive",
        ),
        *("Proxy-Authorization", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Date"),
        *("Webhook-Id", "webhook-signature", "Restante-Lease", "restante-x", "ce-type"),
        *("User-Agent", "", "a b", "a:b", "a\r\nb", "größe", ":path", "a\0", "x" * 129),
    ],
)
def test_headers_that_are_not_a_clients_to_set(name):
    with pytest.raises(InvalidHeader):
        check_headers({name: "x"})


@pytest.mark.parametrize("value", ["a\r\nhost: x", "a\nb", "a\0", " a", "a ", "ä", "\x7f", "\t"])
def test_values_that_are_none(value):
    with pytest.raises(InvalidHeader, match="printable"):
        check_headers({"x": value})


def test_how_many_headers_and_how_large():
    check_headers({f"x-{n}": "v" for n in range(HEADERS)})
    with pytest.raises(InvalidHeader, match="at most 32"):
        check_headers({f"x-{n}": "v" for n in range(HEADERS + 1)})
    check_headers({"x": "v" * 8_191})
    with pytest.raises(InvalidHeader, match="8192 bytes"):
        check_headers({"x": "v" * 8_192})
    with pytest.raises(InvalidHeader, match="twice"):
        check_headers({"X-a": "1", "x-A": "2"})


def test_bounds():
    webhook = Webhook(queue="q", url="https://example.com/")
    webhook.check()
    for name, bound in BOUNDS.items():
        for value in (bound.low, bound.high):
            msgspec.structs.replace(webhook, **{name: value}).check()
        for value in (bound.low / 2, bound.high * 2, float("nan"), -1):
            with pytest.raises(OutOfBounds, match=name):
                msgspec.structs.replace(webhook, **{name: value}).check()
