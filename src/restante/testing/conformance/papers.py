"""Papers: kept as they are, each put in the place of a given version where that matters."""

from __future__ import annotations

from typing import Any

import msgspec

from restante.changes import DropPaper, PutPaper, PutQueue
from restante.errors import ClientNotFound, PaperChanged
from restante.model import Queue
from restante.papers import Kind, Paper
from restante.queries import CountPapers, PaperOf, Papers, PaperVersions, QueueByName
from restante.testing.conformance.stage import Stage, refused


async def a_paper_is_kept_as_it_is(stage: Stage) -> None:
    content = bytes(range(256))
    assert await _paper(stage) is None
    await stage.configure(PutPaper(_new(content=content, expires_at_ms=2**45)))
    assert await _paper(stage) == _new(content=content, version=1, expires_at_ms=2**45)
    assert await stage.store.browse(PaperOf(Kind.ALERT, "k")) is None
    assert await stage.store.browse(PaperOf(Kind.ACT, "other")) is None


async def a_paper_without_a_version_takes_any_place(stage: Stage) -> None:
    for number in (1, 2, 3):
        await stage.configure(PutPaper(_new(content=b"%d" % number)))
        assert await _paper(stage) == _new(content=b"%d" % number, version=number)


async def a_paper_with_a_version_takes_the_place_before_it_only(stage: Stage) -> None:
    await refused(PaperChanged, stage.configure(PutPaper(_new(version=2))))
    await stage.configure(PutPaper(_new(version=1)))
    for version in (1, 3):
        await refused(PaperChanged, stage.configure(PutPaper(_new(version=version))))
    await stage.configure(PutPaper(_new(version=2, content=b"two")))
    assert await _paper(stage) == _new(version=2, content=b"two")


async def a_dropped_paper_is_gone_and_dropping_it_again_changes_nothing(stage: Stage) -> None:
    await stage.configure(PutPaper(_new()), PutPaper(_new(key="l")))
    for _ in range(2):
        await stage.configure(DropPaper(Kind.ACT, "k"))
        assert await _paper(stage) is None
    assert [paper.key for paper in await stage.store.browse(Papers(Kind.ACT))] == ["l"]
    await stage.configure(PutPaper(_new(version=1)))


async def papers_are_counted_within_bounds(stage: Stage) -> None:
    await stage.configure(*(PutPaper(_new(key=key)) for key in ("a/1", "b/1", "b/2", "b/3", "c/1")))
    for after, before, limit, number in (
        ("b/", "b/~", 9, 3),
        ("b/", "b/~", 2, 2),
        ("b/1", "b/3", 9, 1),
        ("d/", "d/~", 9, 0),
    ):
        counted = CountPapers(Kind.ACT, after, before, limit)
        assert await stage.store.browse(counted) == number
    assert await stage.store.browse(CountPapers(Kind.ALERT, "b/", "b/~", 9)) == 0


async def papers_change_together_with_others_or_not_at_all(stage: Stage) -> None:
    await refused(ClientNotFound, stage.configure(PutPaper(_new()), PutQueue(Queue("q", "nobody"))))
    assert await _paper(stage) is None
    await refused(
        PaperChanged, stage.configure(PutQueue(Queue("q", "acme")), PutPaper(_new(version=7)))
    )
    assert await stage.store.browse(QueueByName("q")) is None
    await stage.configure(PutQueue(Queue("q", "acme")), PutPaper(_new(version=1)))
    assert await _paper(stage) == _new(version=1)


async def many_papers_are_put_at_once_and_the_last_of_a_key_counts(stage: Stage) -> None:
    await stage.configure(
        *(PutPaper(_new(key=f"{number % 300:03}", content=b"%d" % number)) for number in range(500))
    )
    papers = await stage.store.browse(Papers(Kind.ACT, limit=1_000))
    assert len(papers) == 300
    assert (papers[0].content, papers[0].version) == (b"300", 2)
    assert (papers[299].content, papers[299].version) == (b"299", 1)


async def papers_come_in_pages_by_key(stage: Stage) -> None:
    names = ["a", "a/b", "a0", "b", "~"]
    await stage.configure(*(PutPaper(_new(key=name)) for name in reversed(names)))
    await stage.configure(PutPaper(_new(kind=Kind.JOB, key="a")))
    assert await _keys(stage) == names
    assert await _keys(stage, after="a") == names[1:]
    assert await _keys(stage, after="a/", before="a0") == ["a/b"]
    assert await _keys(stage, limit=2) == names[:2]
    assert await _keys(stage, newest_first=True, limit=2) == ["~", "b"]
    assert await _keys(stage, newest_first=True, before="b") == ["a0", "a/b", "a"]


async def versions_are_told_of_those_that_are_there(stage: Stage) -> None:
    await stage.configure(PutPaper(_new(key="a")), PutPaper(_new(key="b")))
    await stage.configure(PutPaper(_new(key="b")), PutPaper(_new(kind=Kind.JOB, key="c")))
    for keys, found in (((), {}), (("c",), {}), (("b", "a", "c", "b"), {"a": 1, "b": 2})):
        assert await stage.store.browse(PaperVersions(Kind.ACT, keys)) == found


async def papers_past_their_time_are_pruned(stage: Stage) -> None:
    now = stage.clock.wall_ms()
    await stage.configure(
        PutPaper(_new(key="stays")),
        PutPaper(_new(key="later", expires_at_ms=now + 10_000)),
        *(PutPaper(_new(key=f"{n}", expires_at_ms=now + 1_000)) for n in range(5)),
    )
    await stage.prune_all()
    assert len(await _keys(stage)) == 7
    await stage.pass_time(1)
    assert await stage.store.prune(3) >= 3
    assert len(await _keys(stage)) == 4
    await stage.prune_all()
    assert await _keys(stage) == ["later", "stays"]


def _new(**fields: Any) -> Paper:
    return msgspec.structs.replace(Paper(kind=Kind.ACT, key="k", content=b"{}"), **fields)


async def _paper(stage: Stage) -> Paper | None:
    return await stage.store.browse(PaperOf(Kind.ACT, "k"))


async def _keys(stage: Stage, **fields: Any) -> list[str]:
    return [paper.key for paper in await stage.store.browse(Papers(Kind.ACT, **fields))]
