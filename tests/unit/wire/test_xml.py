"""The XML envelope: an exact round trip, friendly to people, deaf to attacks."""

from __future__ import annotations

import contextlib
from typing import Any, Literal, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.errors import Malformed
from restante.wire import xml


class Line(msgspec.Struct, omit_defaults=True):
    lease: str
    outcome: Literal["ack", "nack"] = "ack"
    reason: str | None = None
    retry_after: float | None = None


class Page(msgspec.Struct):
    """Whose end is told by a null, which XML leaves out."""

    names: list[str]
    next: str | None


class Envelope(msgspec.Struct, omit_defaults=True):
    max: int = 10
    wait: float = 20.0
    preview: bool = False
    title: str | None = None
    settle: list[Line] = []
    seqs: list[int] | None = None
    attributes: dict[str, str] = {}
    filter: dict[str, str | list[str]] = {}
    nested: Line | None = None
    tree: Envelope | None = None


texts = st.text()  # without lone surrogates
lines = st.builds(
    Line,
    texts,
    st.sampled_from(["ack", "nack"]),
    st.none() | texts,
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
free_names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1).filter(
    xml.is_xml_text
)
envelopes = st.builds(
    Envelope,
    max=st.integers(-(2**63), 2**63 - 1),
    wait=st.floats(allow_nan=False, allow_infinity=False),
    preview=st.booleans(),
    title=st.none() | texts,
    settle=st.lists(lines, max_size=3),
    seqs=st.none() | st.lists(st.integers(0, 2**40), max_size=3),
    attributes=st.dictionaries(free_names, texts, max_size=3),
    filter=st.dictionaries(free_names, texts | st.lists(texts, min_size=1, max_size=3), max_size=3),
    nested=st.none() | lines,
)


def decode(text: str, type: type[Any] = Envelope) -> Any:
    return xml.decode(text.encode(), type)


def refused(document: str | bytes, type: type[Any] = Envelope) -> str:
    data = document.encode() if isinstance(document, str) else document
    with pytest.raises(Malformed) as caught:
        xml.decode(data, type)
    return str(caught.value)


class TestRoundTrip:
    @given(envelopes)
    def test_everything_comes_back_as_it_was(self, envelope: Envelope) -> None:
        assert xml.decode(xml.encode(msgspec.to_builtins(envelope), "x"), Envelope) == envelope

    @given(texts)
    def test_any_text_is_kept_exactly(self, text: str) -> None:
        assert xml.decode(xml.encode({"lease": text}, "x"), Line) == Line(text)

    @given(texts)
    def test_what_xml_cannot_carry_is_told_from_what_it_can(self, text: str) -> None:
        assert (b'encoding="base64"' in xml.encode(text, "x")) is not xml.is_xml_text(text)

    @pytest.mark.parametrize(
        "text", ["", " ", "\r", "\r\n", "\n\r\t ", " a ", "]]>", "<&\">'", "é😀"]
    )
    def test_awkward_text(self, text: str) -> None:
        assert xml.is_xml_text(text)
        assert xml.decode(xml.encode({"lease": text}, "x"), Line).lease == text

    @pytest.mark.parametrize("name", ["a\nb", "a\tb\r", '"', " a ", "<&>"])
    def test_awkward_names(self, name: str) -> None:
        value = {"attributes": {name: "v"}}
        assert xml.decode(xml.encode(value, "x"), Envelope).attributes == {name: "v"}

    @pytest.mark.parametrize("text", ["\0", "\x1b", "\x0b", "\ufffe", "\uffff"])
    def test_control_characters_go_as_base64(self, text: str) -> None:
        assert not xml.is_xml_text(text)
        assert xml.decode(xml.encode({"lease": text}, "x"), Line).lease == text

    def test_a_lone_surrogate_is_no_xml_text(self) -> None:
        assert not xml.is_xml_text("\ud800")

    def test_empty_is_what_the_type_says(self) -> None:
        document = "<x><settle/><title/><attributes/><filter/><tree/><seqs/></x>"
        assert decode(document) == Envelope(title="", tree=Envelope(), seqs=[])

    @pytest.mark.parametrize("next", ["b", "", "null", None])
    def test_a_null_that_was_left_out_is_a_null(self, next: str | None) -> None:
        page = Page(["a"], next)
        assert xml.decode(xml.encode(msgspec.to_builtins(page), "page"), Page) == page

    def test_a_type_that_says_nothing_goes_by_the_content(self) -> None:
        value = {"a": ["1", "2"], "b": {"c": "x"}, "attributes": {"k": "v"}}
        assert xml.decode(xml.encode(value, "x"), cast("Any", Any)) == value


class TestForm:
    def test_the_document(self) -> None:
        value = {
            "max": 10,
            "half": 0.5,
            "preview": True,
            "left_out": None,
            "attributes": {"region": "eu", "gone": None},
            "filter": {"kind": ["a", "b"]},
            "settle": [{"lease": "A<b"}],
        }
        assert xml.encode(value, "receive").decode() == (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<receive xmlns="urn:restante:v1"><max>10</max><half>0.5</half><preview>true</preview>'
            '<attributes><entry name="region">eu</entry></attributes>'
            '<filter><entry name="kind"><item>a</item><item>b</item></entry></filter>'
            "<settle><item><lease>A&lt;b</lease></item></settle></receive>"
        )

    @pytest.mark.parametrize(
        "value",
        [
            {"a b": 1},
            {"": 1},
            {"1": 1},
            {"a": [None]},
            {"a": float("nan")},
            {"a": float("inf")},
            {"a": b"bytes"},
            {"a": "\ud800"},
            {"attributes": {"\0": "x"}},
        ],
    )
    def test_what_has_no_form_is_an_error(self, value: object) -> None:
        with pytest.raises(ValueError, match=r"XML|name|surrogate"):
            xml.encode(value, "x")

    def test_problem_details_have_their_own_namespace(self) -> None:
        document = xml.encode({"title": "t"}, "problem", xml.PROBLEM_NAMESPACE)
        assert b'<problem xmlns="urn:ietf:rfc:7807">' in document
        assert xml.decode(document, Envelope) == Envelope(title="t")

    def test_nothing_at_all(self) -> None:
        assert xml.encode(None, "x").endswith(b'<x xmlns="urn:restante:v1"/>')


class TestFriendliness:
    def test_prefixes_comments_cdata_and_white_space(self) -> None:
        document = """<?xml version="1.0" standalone="yes"?>
            <!-- hello -->
            <r:receive xmlns:r="urn:restante:v1" xmlns:xsi="urn:x" xsi:schemaLocation="a b">
                <r:max> 5 </r:max>
                <r:title><![CDATA[a <b> ]]>&amp;<!-- c --> d</r:title>
                <r:preview>
                    1
                </r:preview>
                <r:settle><r:item><r:lease>t</r:lease><r:outcome> nack </r:outcome></r:item></r:settle>
            </r:receive>"""
        assert decode(document) == Envelope(
            max=5, title="a <b> & d", preview=True, settle=[Line("t", "nack")]
        )

    @pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1"])
    def test_encodings(self, codec: str) -> None:
        name = "utf-8" if codec == "utf-8-sig" else codec
        document = f'<?xml version="1.0" encoding="{name}"?><x><lease>é</lease></x>'
        assert xml.decode(document.encode(codec), Line).lease == "é"

    def test_an_unknown_member_is_passed_over_as_in_json(self) -> None:
        assert decode("<x><new><a/><b>1</b></new><max>2</max></x>") == Envelope(max=2)

    def test_members_may_be_written_as_entries(self) -> None:
        assert decode('<x><entry name="lease">t</entry></x>', Line) == Line("t")

    def test_entries_may_be_written_as_members(self) -> None:
        document = "<x><attributes><region>eu</region></attributes></x>"
        assert decode(document) == Envelope(attributes={"region": "eu"})

    def test_a_list_may_be_the_whole_document(self) -> None:
        assert decode("<x><item>1</item><item>2</item></x>", list[int]) == [1, 2]

    def test_base64_may_be_folded(self) -> None:
        assert (
            decode('<x><lease encoding="base64">\n  AA\n  E=\n</lease></x>', Line).lease == "\0\1"
        )


class TestRefusals:
    @pytest.mark.parametrize(
        ("document", "place", "what"),
        [
            ("", "line 1, column 1", "no element found"),
            ("<x>", "line 1, column 4", "no element found"),
            ("<x>\n <max>1</x>", "line 2, column 10", "mismatched tag"),
            ("<x><max>one</max></x>", "line 1, column 4", "<max> is not as expected"),
            ("<x>\n\n  <max>1<a/></max></x>", "line 3, column 9", "<a> is not expected here"),
            ("<x>stray</x>", "line 1, column 1", "text between"),
            ("<x><max>1</max><max>2</max></x>", "line 1, column 16", "<max> is given twice"),
            ("<x><settle><line/></settle></x>", "line 1, column 12", "<item> is expected"),
            ("<x><attributes><entry/></attributes></x>", "line 1, column 16", "<entry name="),
            (
                '<x><attributes><entry name="a"/><entry name="a"/></attributes></x>',
                "line 1, column 33",
                "second time",
            ),
            (
                "<x><settle><item><lease>a</lease></item>\n<item/></settle></x>",
                "line 2, column 1",
                "`lease`",
            ),
            ("<x><nested><lease/><outcome>no</outcome></nested></x>", "column 20", "<outcome>"),
            ('<x max="1"/>', "line 1, column 1", "attribute max"),
            ('<x><max name="1">1</max></x>', "line 1, column 4", "attribute name"),
            ('<x xmlns="urn:other"/>', "line 1, column 1", "namespace"),
            ('<x><title encoding="rot13">a</title></x>', "line 1, column 4", "base64"),
            ('<x><title encoding="base64">a</title></x>', "line 1, column 4", "base64"),
            ('<x><title encoding="base64">/w==</title></x>', "line 1, column 4", "UTF-8"),
            ('<x><settle encoding="base64"/></x>', "line 1, column 4", "encoding"),
            ("<x><title>\0</title></x>", "line 1, column 11", "not well-formed"),
            ("<x><title>&#0;</title></x>", "line 1, column 11", "invalid character"),
            ("<p:x/>", "line 1, column 1", "unbound prefix"),
            ("<x/><x/>", "line 1, column 5", "junk after document element"),
        ],
    )
    def test_says_where_and_what(self, document: str, place: str, what: str) -> None:
        detail = refused(document)
        assert place in detail
        assert what in detail

    @given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: f"<x>{t}</x>".encode()))
    def test_garbage_is_refused_or_read_and_never_worse(self, data: bytes) -> None:
        with contextlib.suppress(Malformed):
            xml.decode(data, Envelope)


BOMB = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))


class TestAttacks:
    @pytest.mark.parametrize(
        "prologue",
        [
            "<!DOCTYPE x>",
            '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">',
            '<!DOCTYPE x PUBLIC "-//x//x" "file:///etc/passwd">',
            '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
            '<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>',
            f'<!DOCTYPE x [<!ENTITY a0 "ha">{BOMB}]>',
            f'<!DOCTYPE x [<!ENTITY e "{"a" * 100_000}">]>',
        ],
    )
    def test_no_document_type(self, prologue: str) -> None:
        detail = refused(f"{prologue}<x><title>&e;</title></x>")
        assert detail.startswith("XML, line 1,")
        assert "a document type is not allowed" in detail

    def test_no_entity_but_the_five(self) -> None:
        assert decode("<x><title>&lt;&gt;&amp;&apos;&quot;</title></x>").title == "<>&'\""
        assert "undefined entity" in refused("<x><title>&e;</title></x>")

    @pytest.mark.parametrize(
        "document", ['<?xml-stylesheet href="http://127.0.0.1:1/"?><x/>', "<x><?php 1?></x>"]
    )
    def test_no_processing_instruction(self, document: str) -> None:
        assert "processing instruction" in refused(document)

    @pytest.mark.parametrize("name", ["idna", "rot13", "zlib", "utf-7", "os.path", "x" * 10_000])
    def test_no_codec_is_looked_for(self, name: str) -> None:
        assert "the encoding must be" in refused(f'<?xml version="1.0" encoding="{name}"?><x/>')

    def test_depth(self) -> None:
        def nested(depth: int) -> str:
            return "<a>" * depth + "</a>" * depth

        decode(nested(xml.DEPTH), cast("Any", Any))
        assert f"deeper than {xml.DEPTH}" in refused(nested(xml.DEPTH + 1))
        assert f"deeper than {xml.DEPTH}" in refused("<a>" * 1_000_000)

    def test_elements(self) -> None:
        assert (
            len(decode(f"<x>{'<item/>' * (xml.ELEMENTS - 1)}</x>", list[str])) == xml.ELEMENTS - 1
        )
        assert f"more than {xml.ELEMENTS}" in refused(f"<x>{'<item/>' * xml.ELEMENTS}</x>")

    def test_many_attributes_and_namespaces(self) -> None:
        attributes = " ".join(f'a{n}="1"' for n in range(10_000))
        assert "attribute" in refused(f"<x {attributes}/>")
        declared = " ".join(f'xmlns:n{n}="urn:{n}"' for n in range(10_000))
        assert decode(f"<x {declared}/>") == Envelope()
