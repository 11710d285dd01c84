"""A queue that requires its client's signature requires it of the endpoint that is being called already."""

from tests.unit.engine.house import settings


async def test_it_is_required_of_a_webhook_that_runs(post, endpoints):
    await post.webhook()
    await post.publish(b"1")
    await settings(post.broker, signature="required")
    await endpoints.answer(200)
    (nacked,) = [one for one in await post.ledger() if one.outcome != "published"]
    assert nacked.outcome == "nacked"
    assert nacked.reason.startswith("signature_required: ")


async def test_it_is_required_no_more_of_one_that_runs(post, endpoints):
    await settings(post.broker, signature="required")
    await post.webhook()
    await post.publish(b"1")
    await settings(post.broker)
    await endpoints.answer(200)
    assert await post.outcomes() == ["acked"]
