"""The operators' page without a network: a browser that keeps cookies and sends the forms of the page it was on."""

import asyncio
import re

import httpx
from argon2 import PasswordHasher

from restante.desk import composition
from restante.engine.operators import Operators
from restante.engine.passwords import Passwords
from restante.http.api import Api, Routes
from restante.http.authentication import Authenticator
from restante.model import SYSTEM

ADMIN_KEY = "the-administrators-key-of-these-tests"
PASSWORD = "correct horse battery staple"
HOST = "desk.test"
_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]+)"')


def quick_passwords():
    """Hashes that are quick to make: nobody attacks them here."""
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


class Site:
    """The page over a broker, with an account for each role, named after it."""

    def __init__(self, broker, provider=None):
        self.broker = broker
        self.operators = Operators(broker, quick_passwords())
        self.routes = Routes()
        authenticator = Authenticator(broker, ADMIN_KEY)
        composition.add_routes(
            self.routes, broker, self.operators, authenticator, "1.2.3", provider, "/portal/enter"
        )
        self.app = Api(self.routes, None)

    async def add(self, name, level):
        await self.operators.add(name, level, PASSWORD, SYSTEM)

    def browser(self, **options):
        return Browser(self.app, **options)

    async def signed_in(self, name):
        browser = self.browser()
        assert (await browser.sign_in(name)).status_code == 303
        return browser


class Browser(httpx.AsyncClient):
    """``page`` is the last one it was shown."""

    def __init__(self, app, scheme="https", address="192.0.2.1", **headers):
        super().__init__(
            transport=httpx.ASGITransport(app, client=(address, 1234)),
            base_url=f"{scheme}://{HOST}",
            headers={"sec-fetch-site": "same-origin", **headers},
        )
        self.page = ""

    async def see(self, path, **options):
        answer = await self.get(path, **options)
        self.page = answer.text
        return answer

    async def send_form(self, path, headers=None, **fields):
        """A form of the page it is on."""
        if (token := _TOKEN.search(self.page)) is not None:
            fields.setdefault("form_token", token[1])
        return await self.post(path, data=fields, headers=headers)

    async def sign_in(self, name, password=PASSWORD, **fields):
        return await self.post("/sign-in", data={"name": name, "password": password, **fields})

    async def sign_in_by_key(self, key):
        return await self.post("/sign-in", data={"password": key})


class Reader:
    """Asks for the stream as a visitor, and keeps what comes."""

    def __init__(self, site, cookies, path="/live"):
        self.events = []
        self.status = None
        self._site = site
        self._asked = False
        self._leave = asyncio.Event()
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        self._scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [(b"cookie", cookie.encode()), (b"host", b"desk.test")],
            "client": ("192.0.2.1", 1),
            "scheme": "https",
        }
        self.task = asyncio.create_task(site.app(self._scope, self._receive, self._send))

    async def _receive(self):
        await self._leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        self.status = message.get("status", self.status)
        if message.get("body"):
            self.events.append(message["body"].decode())

    def leave(self):
        self._leave.set()

    def kinds(self):
        return [
            line.removeprefix("event: ")
            for event in self.events
            for line in event.splitlines()
            if line.startswith("event: ")
        ]
