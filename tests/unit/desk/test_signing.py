"""Who gets in, for how long, and how a visit ends."""

import pytest
from tests.unit.desk.house import ADMIN_KEY, PASSWORD
from tests.unit.engine.house import OPERATOR

from restante.desk.attempts import BY_NAME
from restante.engine.acts import Wanted, What
from restante.engine.administration import Administration
from restante.model import SYSTEM, Role
from restante.wire import visits


async def test_an_account_opens_the_page(site, broker):
    browser = site.browser()
    answer = await browser.see("/?sort=depth")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=%2F%3Fsort%3Ddepth"
    answer = await browser.sign_in("viewer", next="/?sort=depth")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?sort=depth")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-restante=")
    assert cookie.endswith("; Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Strict")
    assert (await browser.see("/")).status_code == 200
    (act,) = (await broker.acts.page(Wanted(what=What.OPERATOR_SIGNED_IN))).acts
    assert (act.who.name, act.who.transport) == ("viewer", "dashboard")


async def test_an_administrators_key_opens_it(site, broker):
    browser = site.browser()
    assert (await browser.sign_in_by_key(f" {ADMIN_KEY}\n")).status_code == 303
    assert "<strong>admin</strong>" in (await browser.see("/")).text
    key, text = await Administration(broker, OPERATOR).add_key(Role.ADMIN, "ada", None, "")
    browser = site.browser()
    assert (await browser.sign_in_by_key(text)).status_code == 303
    assert "<strong>ada</strong>" in (await browser.see("/")).text
    await Administration(broker, OPERATOR).revoke_key(key.id)
    assert (await browser.see("/")).status_code == 303


async def test_every_other_key_is_refused_alike(site, broker):
    _, clients = await Administration(broker, OPERATOR).add_key(Role.CLIENT, "acme", None, "")
    _, publishers = await Administration(broker, OPERATOR).add_key(Role.PUBLISHER, "shop", None, "")
    told = set()
    for key in (clients, publishers, "nonsense", ""):
        answer = await site.browser().sign_in_by_key(key)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        told.add(answer.text)
    assert len(told) == 1


async def test_whose_name_is_known_is_not_told(site):
    await site.operators.change("operator", disabled=True, actor=SYSTEM)
    told = set()
    for name, password in (
        ("viewer", "wrong password"),
        ("nobody", PASSWORD),
        ("operator", PASSWORD),
        ("<script>", PASSWORD),
    ):
        answer = await site.browser().sign_in(name, password)
        assert answer.status_code == 401
        told.add(answer.text)
    assert len(told) == 1


async def test_what_is_signed_out_stays_out(site):
    browser = await site.signed_in("viewer")
    copy = dict(browser.cookies)
    await browser.see("/")
    answer = await browser.send_form("/sign-out")
    assert answer.headers["location"] == "/sign-in"
    assert "Max-Age=0" in answer.headers["set-cookie"]
    thief = site.browser()
    thief.cookies.update(copy)
    assert (await thief.see("/")).status_code == 303


@pytest.mark.parametrize(
    "change", [{"password": "another long password"}, {"disabled": True}, {"sign_out": True}]
)
async def test_a_change_of_the_account_ends_its_visits(site, change):
    browser, other = await site.signed_in("viewer"), await site.signed_in("operator")
    await site.operators.change("viewer", actor=SYSTEM, **change)
    assert (await browser.see("/")).status_code == 303
    assert (await other.see("/")).status_code == 200


async def test_another_role_counts_at_once(site):
    browser = await site.signed_in("viewer")
    assert (await browser.see("/queues/acme/settings")).status_code == 403
    await site.operators.change("viewer", level="operator", actor=SYSTEM)
    assert (await browser.see("/queues/acme/settings")).status_code == 200


async def test_who_does_nothing_is_signed_out(site, clock):
    browser = await site.signed_in("viewer")
    clock.advance(visits.IDLE_SECONDS - 1)
    # What an open page fetches by itself is not somebody doing something.
    assert "set-cookie" not in (await browser.see("/overview/now")).headers
    clock.advance(1)
    assert (await browser.see("/")).status_code == 303


async def test_a_visit_lasts_twelve_hours_at_most(site, clock):
    browser = await site.signed_in("viewer")
    for _ in range(visits.LIFE_SECONDS // 1_800 - 1):
        clock.advance(1_800)
        assert (await browser.see("/")).status_code == 200
    clock.advance(1_800)
    assert (await browser.see("/")).status_code == 303


async def test_a_forged_cookie_opens_nothing(site):
    browser = await site.signed_in("viewer")
    value = browser.cookies[visits.NAME]
    other = "B" if value.startswith("A") else "A"
    for forged in (value[:-1], other + value[1:], value + "AAAA", "", "\u00e9", "x" * 5_000):
        answer = await site.browser().see(
            "/", headers={"cookie": f"{visits.NAME}={forged}".encode()}
        )
        assert answer.status_code == 303


async def test_who_fails_too_often_has_to_wait(site, clock):
    for _ in range(10):
        assert (await site.browser().sign_in("viewer", "wrong password")).status_code == 401
    answer = await site.browser().sign_in("viewer")
    assert (answer.status_code, "too many attempts" in answer.text) == (429, True)
    # Others are not shut out, and neither is who succeeds again and again.
    for _ in range(12):
        elsewhere = site.browser(address="198.51.100.7")
        assert (await elsewhere.sign_in("viewer")).status_code == 303
    clock.advance(30)
    assert (await site.browser().sign_in("viewer")).status_code == 303


async def test_one_name_from_many_addresses(site):
    for number in range(30):
        browser = site.browser(address=f"198.51.100.{number}")
        assert (await browser.sign_in("viewer", "wrong password")).status_code == 401
    assert (await site.browser().sign_in("viewer")).status_code == 429
    assert (await site.browser().sign_in("operator")).status_code == 303


async def test_a_link_from_elsewhere_finds_the_visit_again(site):
    """The cookie does not come with it: the page asks once more by itself."""
    answer = await site.browser().get(
        "/sign-in", params={"next": "/queues/acme"}, headers={"sec-fetch-site": "cross-site"}
    )
    assert '<meta http-equiv="refresh" content="0; url=/queues/acme">' in answer.text


@pytest.mark.parametrize(
    "there", ["//evil.test/", "https://evil.test/", "/\\evil.test", "", "/\r\nx"]
)
async def test_nobody_is_sent_elsewhere(site, there):
    answer = await site.browser().sign_in("viewer", next=there)
    assert answer.headers["location"] == "/"


async def test_no_password_is_asked_for_where_others_can_read_it(site):
    browser = site.browser(scheme="http")
    del browser.headers["sec-fetch-site"]
    answer = await browser.see("/sign-in")
    assert "<form" not in answer.text
    assert "not private" in answer.text
    answer = await browser.post(
        "/sign-in",
        data={"name": "viewer", "password": PASSWORD},
        headers={"origin": "http://desk.test"},
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    # Behind a proxy that ends the TLS, the browser says that it is private.
    assert "<form" in (await browser.see("/sign-in", headers={"sec-fetch-site": "none"})).text


async def test_the_page_of_another_site_signs_nobody_in(site):
    browser = site.browser()
    browser.headers["sec-fetch-site"] = "cross-site"
    answer = await browser.sign_in("viewer")
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


async def test_htmx_is_told_to_load_the_page_anew(site):
    answer = await site.browser().see("/overview/now", headers={"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-refresh"]) == (401, "true")


async def test_guesses_at_keys_shut_nobody_else_out(site):
    """From however many addresses: they have no name in common, as guesses at an account's password have."""
    for number in range(2 * BY_NAME):
        guesser = site.browser(address=f"198.51.100.{number}")
        assert (await guesser.sign_in_by_key("rst_guess_x")).status_code in (401, 429)
        assert (await guesser.sign_in_by_key(f"guess-{number}")).status_code == 401
    assert (await site.browser().sign_in_by_key(ADMIN_KEY)).status_code == 303
