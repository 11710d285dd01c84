"""The demo's documents: as varied as they should be, and the same every time."""

from __future__ import annotations

import codecs

import pytest

from restante.cli.demo.actors import PICKY, QUEUES
from restante.cli.demo.documents import LARGEST_BYTES, Flawed, documents, process


def test_the_same_documents_every_time():
    assert list(documents(50, QUEUES, PICKY)) == list(documents(50, QUEUES, PICKY))


def test_documents_are_of_every_kind_and_size():
    made = list(documents(1_000, QUEUES, PICKY))
    sizes = [len(document.content) for document in made]
    assert min(sizes) < 400
    assert 50_000 < max(sizes) <= LARGEST_BYTES
    assert {document.kind for document in made} == {"order", "invoice", "stock"}
    assert any(document.content.startswith(codecs.BOM_UTF16_LE) for document in made)
    assert any("ISO-8859-1" in document.content_type for document in made)
    assert any(b"<!DOCTYPE" in document.content for document in made)
    assert any(b"<![CDATA[" in document.content for document in made)


@pytest.mark.parametrize("count", [60, 1_000])
def test_only_one_client_meets_poison_and_of_both_sorts(count):
    reasons = set()
    for document in documents(count, QUEUES, PICKY):
        try:
            process(document.content, document.content_type)
        except Flawed as flaw:
            assert document.queue == PICKY
            reasons.add(flaw.passing)
    assert reasons == {True, False}


def test_what_passes_is_over_at_the_second_attempt():
    document = next(d for d in documents(60, QUEUES, PICKY) if d.number == 7)
    with pytest.raises(Flawed) as flaw:
        process(document.content, document.content_type, 1)
    assert flaw.value.passing
    assert "000007" in process(document.content, document.content_type, 2)
