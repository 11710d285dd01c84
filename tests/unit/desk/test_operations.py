"""Operations that complete later, on the operators' page."""

import re

import msgspec
from tests.unit.desk.test_groups import words
from tests.unit.desk.test_pages import HOSTILE, Markup
from tests.unit.engine.house import SHOP, acts
from tests.unit.engine.test_operations import DONE, OTHER, RUNNING, make

from restante.desk import operations
from restante.errors import StoreFull
from restante.operation import Asked, Failure, Move, OperationState

FOR_ACME = Asked(title=HOSTILE, client="acme", queue="acme", runner="one")


async def test_those_that_are_open_are_listed_page_by_page(site, broker, clock, monkeypatch):
    monkeypatch.setattr(operations, "PAGE", 2)
    browser = await site.signed_in("viewer")
    assert "None is open." in await words(browser, "/operations")
    long = msgspec.structs.replace(FOR_ACME, runner="r" * 128)
    ids = []
    for asked, actor in ((Asked(), OTHER), (Asked(), OTHER), *[(long, SHOP)] * 3):
        ids.append((await make(broker, asked, actor)).operation.id)
        clock.advance(1)
    await broker.operations.move(ids[0], Move(state=OperationState.CANCELLED), OTHER)
    page = (await browser.see("/operations")).text
    # The one that has ended was the first, and is none of them.
    assert listed(page) == ids[1:3]
    (following,) = re.findall(r'href="(/operations\?after=[^"]+)" rel="next"', page)
    page = (await browser.see(following)).text
    assert listed(page) == ids[3:5]
    assert (
        'rel="next"'
        not in (await browser.see(f"/operations?after=publisher/shop/{'r' * 128}/z")).text
    )
    assert (await browser.see(f"/operations?after={'r' * 401}")).status_code == 400
    told = await words(browser, following)
    assert " ".join(HOSTILE.split()) in told
    assert "shop" in told


def listed(page):
    return re.findall(r'href="/operations/([^"?]+)"', page)


async def test_one_tells_how_it_stands_and_whom_it_is_told_to(site, broker):
    browser = await site.signed_in("operator")
    id = (await make(broker, FOR_ACME)).operation.id
    path = f"/operations/{id}"
    told = await words(browser, path)
    assert "queued" in told
    assert "by shop" in told
    assert "The queue that is told of its end acme" in told
    assert "It fails unless it ends within 1 d" in told
    running = Move(state=OperationState.RUNNING, progress=0.4, note=HOSTILE)
    await broker.operations.move(id, running, SHOP)
    now = (await browser.see(f"{path}/now")).text
    assert 'value="0.4"' in now
    assert f'hx-get="{path}/now"' in now
    assert " ".join(HOSTILE.split()) in await words(browser, path)
    await broker.operations.move(id, DONE, SHOP)
    now = (await browser.see(f"{path}/now")).text
    assert "hx-get" not in now, "it has ended"
    told = await words(browser, path)
    assert "succeeded" in told
    assert "Result application/xml, 9 B" in told
    assert "report/" not in told.partition("Result")[2], "not before it was asked for"


async def test_a_result_is_shown_and_the_look_recorded(site, broker):
    browser = await site.signed_in("operator")
    id = (await make(broker, FOR_ACME)).operation.id
    path = f"/operations/{id}"
    await browser.see(path)
    await browser.send_form(f"{path}/result")
    assert await acts(broker, what="result.viewed") == [], "there is none yet"
    await broker.operations.move(id, DONE, SHOP)
    for page in (path, f"{path}/now"):
        seen = (await browser.see(page)).text
        assert f'action="{path}/result#result"' in seen
        assert "report/" not in seen
    assert await acts(broker, what="result.viewed") == []
    answer = await browser.send_form(f"{path}/result")
    assert "<report/>" in Markup(answer.text.split('id="result"')[1]).words
    (look,) = await acts(broker, what="result.viewed", subject=id)
    assert (look.who.name, look.queue) == ("operator", "acme")
    answer = await browser.see(f"{path}/result")
    assert (answer.status_code, answer.headers["location"]) == (303, path)
    assert len(await acts(broker, what="result.viewed")) == 1
    admin = await site.signed_in("admin")
    assert "result.viewed" in (await admin.see(f"/audit?subject={id}")).text
    assert (await admin.send_form("/operations/nothing/result")).status_code == 404


async def test_a_result_is_not_shown_where_the_look_cannot_be_recorded(site, broker, monkeypatch):
    browser = await site.signed_in("operator")
    id = (await make(broker, FOR_ACME)).operation.id
    await broker.operations.move(id, DONE, SHOP)
    await browser.see(f"/operations/{id}")

    async def full(*_, **__):
        raise StoreFull("the disk is full")

    monkeypatch.setattr(broker.acts, "record", full)
    answer = await browser.send_form(f"/operations/{id}/result")
    assert answer.status_code == 507
    assert "report/" not in answer.text


async def test_viewers_see_no_results(site, broker):
    browser = await site.signed_in("viewer")
    id = (await make(broker, FOR_ACME)).operation.id
    await broker.operations.move(id, DONE, SHOP)
    told = await words(browser, f"/operations/{id}")
    assert "Operators may see it." in told
    assert "report/" not in told
    answer = await browser.send_form(f"/operations/{id}/result")
    assert answer.status_code == 403
    assert "report/" not in answer.text
    assert await acts(broker, what="result.viewed") == []


async def test_one_that_has_failed_says_why(site, broker):
    browser = await site.signed_in("viewer")
    id = (await make(broker, FOR_ACME)).operation.id
    failure = Failure("no_paper", HOSTILE)
    await broker.operations.move(id, RUNNING, SHOP)
    await broker.operations.move(id, Move(state=OperationState.FAILED, failure=failure), SHOP)
    told = await words(browser, f"/operations/{id}")
    assert "no_paper" in told
    assert " ".join(HOSTILE.split()) in told


async def test_one_is_found_by_its_id(site, broker):
    browser = await site.signed_in("viewer")
    id = (await make(broker, FOR_ACME)).operation.id
    answer = await browser.see(f"/notifications?id={id}")
    assert answer.headers["location"] == f"/operations/{id}"
    for path in ("/operations/nothing", "/operations/nothing/now"):
        assert (await browser.see(path)).status_code == 404


async def test_the_search_of_its_page_looks_among_operations_alone(site, broker):
    browser = await site.signed_in("viewer")
    id = (await make(broker, FOR_ACME)).operation.id
    assert 'method="get" action="/operations"' in (await browser.see("/operations")).text
    found = await browser.see("/operations", params={"id": f" {id} "}, follow_redirects=True)
    assert (found.status_code, found.url.path) == (200, f"/operations/{id}")
    missing = await browser.see("/operations", params={"id": "nix"}, follow_redirects=True)
    assert missing.status_code == 404
    assert "there is no operation nix here" in missing.text
