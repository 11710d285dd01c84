"""The way in to a client's page: by its key, or by a link that opens once."""

import asyncio

import pytest
from tests.unit.desk.house import ADMIN_KEY, Browser
from tests.unit.engine.house import OPERATOR, acts

from restante.engine.administration import Administration
from restante.engine.links import LIFE_SECONDS, Links
from restante.errors import ClientNotFound, OutOfBounds
from restante.model import Role


async def test_by_the_clients_key(portal, broker, acme):
    page = (await acme.see("/portal/")).text
    assert "Queues of acme" in page
    assert portal.keys["acme"] not in page
    (act,) = await acts(broker, what="client.signed_in")
    assert (act.who.name, act.who.role, act.who.transport) == ("acme", "client", "portal")
    answer = await acme.send_form("/portal/sign-out")
    assert answer.headers["location"] == "/portal/sign-in"
    answer = await acme.see("/portal/queues/acme")
    assert answer.headers["location"] == "/portal/sign-in?next=%2Fportal%2Fqueues%2Facme"


async def test_the_cookie_is_this_sites_alone(portal):
    answer = await portal.browser().post("/portal/sign-in", data={"key": portal.keys["acme"]})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-restante-client=")
    assert cookie.endswith("; Secure; HttpOnly; SameSite=Strict")


@pytest.mark.parametrize(
    "there", ["/", "/queues/x", "//evil.test", "https://evil.test", "/portalevil"]
)
async def test_one_is_led_to_this_site_alone(portal, there):
    data = {"key": portal.keys["acme"], "next": there}
    answer = await portal.browser().post("/portal/sign-in", data=data)
    assert answer.headers["location"] == "/portal/"


async def test_other_keys_open_nothing(portal, broker):
    _, publisher = await Administration(broker, OPERATOR).add_key(Role.PUBLISHER, "shop", None, "")
    told = set()
    for key in (ADMIN_KEY, publisher, "rst_no_key", portal.keys["acme"] + "x", ""):
        answer = await portal.browser().post("/portal/sign-in", data={"key": key})
        assert answer.status_code == 401
        told.add(answer.text)
    assert len(told) == 1, "none is told from another"
    answer = await portal.browser(**{"sec-fetch-site": "cross-site"}).post(
        "/portal/sign-in", data={"key": portal.keys["acme"]}
    )
    assert answer.status_code == 403


async def test_guessing_shuts_out_who_guesses(portal):
    guesser = portal.browser(address="192.0.2.66")
    for number in range(10):
        await guesser.post("/portal/sign-in", data={"key": f"rst_{number}_x"})
    answer = await guesser.post("/portal/sign-in", data={"key": portal.keys["acme"]})
    assert answer.status_code == 429
    await portal.signed_in("acme")


async def test_a_visit_ends_with_its_key(portal, broker, acme):
    id = portal.keys["acme"].split("_")[1]
    await Administration(broker, OPERATOR).revoke_key(id)
    assert (await acme.see("/portal/")).status_code == 303


async def test_a_link_opens_once(portal, broker):
    links = Links(broker)
    token = await links.make("acme", LIFE_SECONDS, OPERATOR)
    browser = portal.browser()
    for _ in range(2):
        # Whoever only looks uses nothing up: programs that read mail do.
        page = (await browser.see(f"/portal/enter/{token}")).text
        assert "Notifications of acme" in page
    answers = await asyncio.gather(
        *(portal.browser().post(f"/portal/enter/{token}") for _ in range(2))
    )
    assert sorted(answer.status_code for answer in answers) == [303, 410]
    (entered,) = (answer for answer in answers if answer.status_code == 303)
    browser.cookies.update(entered.cookies)
    assert "Queues of acme" in (await browser.see("/portal/")).text
    assert (await browser.see(f"/portal/enter/{token}")).status_code == 410
    assert (await portal.browser().see("/portal/enter/never")).status_code == 410
    made = await acts(broker, what="client.link_made")
    assert [(act.who.name, act.subject) for act in made] == [("op", "acme")]
    assert token not in str(made)


async def test_whoever_shuts_the_client_out_shuts_out_everybody_who_came_before(portal, broker):
    """By whichever of its keys; links that were not used yet too. Not who is let in after that, in the same moment."""
    links = Links(broker)

    async def let_in(name="acme"):
        browser = portal.browser()
        answer = await browser.post(
            f"/portal/enter/{await links.make(name, LIFE_SECONDS, OPERATOR)}"
        )
        assert answer.status_code == 303
        return browser

    before, bobs = await let_in(), await let_in("bob")
    unused = await links.make("acme", LIFE_SECONDS, OPERATOR)
    await Administration(broker, OPERATOR).revoke_key(portal.keys["acme"].split("_")[1])
    after = await let_in()
    codes = [(await browser.see("/portal/")).status_code for browser in (before, bobs, after)]
    assert codes == [303, 200, 200]
    assert (await portal.browser().post(f"/portal/enter/{unused}")).status_code == 410


async def test_a_link_is_good_for_its_time(portal, broker, clock):
    token = await Links(broker).make("acme", 60, OPERATOR)
    clock.advance(60)
    assert (await portal.browser().post(f"/portal/enter/{token}")).status_code == 410
    for wrong, error in ((("acme", 59), OutOfBounds), (("nobody", 60), ClientNotFound)):
        with pytest.raises(error):
            await Links(broker).make(*wrong, OPERATOR)


async def test_a_form_from_elsewhere_enters_nothing(portal, broker):
    token = await Links(broker).make("acme", 60, OPERATOR)
    browser = Browser(portal.app, **{"sec-fetch-site": "cross-site"})
    assert (await browser.post(f"/portal/enter/{token}")).status_code == 403
    assert await Links(broker).client_of(token) == "acme"
