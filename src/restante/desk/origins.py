"""Where a request of a browser comes from, as the browser says: the page takes forms from itself alone. Pure."""

from __future__ import annotations

import ipaddress
import urllib.parse

from restante.errors import Forbidden
from restante.http.head import Head


def check_own(head: Head) -> None:
    """Raise ``Forbidden`` unless the browser says that a page of this very host sent the form.

    Under a referrer policy of ``no-referrer`` a form's ``Origin`` is ``null``; then ``Sec-Fetch-Site``, which no
    page can set, says it alone (Fetch, section 3.2; Fetch Metadata, section 2.3).
    """
    site = head.header(b"sec-fetch-site")
    origin = head.header(b"origin")
    if origin == "null":
        origin = None
    if site is None and origin is None:
        raise Forbidden("this browser does not say where the form comes from")
    if site not in {None, "same-origin"}:
        raise Forbidden("the form comes from another site")
    if origin is not None and urllib.parse.urlsplit(origin).netloc != head.header(b"host"):
        raise Forbidden("the form comes from another site")


def is_followed_from_elsewhere(head: Head) -> bool:
    """Whether a link on another site led here: the browser has then kept the visit's cookie to itself."""
    return head.header(b"sec-fetch-site") == "cross-site"


def is_private(head: Head) -> bool:
    """Whether a password may be typed here: over TLS, or to this machine.

    Behind a proxy that ends the TLS the browser tells: it sends ``Sec-Fetch-Site`` only over what it takes for private.
    """
    if head.scope.get("scheme") == "https" or head.header(b"sec-fetch-site") is not None:
        return True
    host = urllib.parse.urlsplit(f"//{head.header(b'host') or ''}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def local_path(text: str) -> str:
    """A path of this site where that is one, to go to after signing in; else ``/``."""
    if text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable():
        return text[:1_024]
    return "/"
