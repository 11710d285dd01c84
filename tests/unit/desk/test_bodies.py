"""Bodies as pages show them: never markup, never without bounds, and nothing of them lost."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.desk.bodies import INDENTED, SHOWN_BYTES, odd_name, show

LAUGHS = (
    '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><lolz>&c;</lolz>'
)
CORPUS = {
    "script": ("text/html", b"<script>alert(1)</script>"),
    "handler": ("text/html", b"<img src=x onerror=alert(2)>"),
    "cdata": ("application/xml", b"<a><![CDATA[</span><script>alert(1)</script>]]>x</a>"),
    "cdata end": ("application/xml", b"<a>]]&gt;<b c=']]>'/></a>"),
    "controls": ("text/plain", b"a long enough text\0with some\x1b[31m\x7fof them, and \r alone"),
    "bidi": ("text/plain", "an invoice of \u202e00.001\u202c euros".encode()),
    "not utf-8": ("application/xml", b"<name>Andr\xe9 and some more</name>"),
    "utf-16": ("application/xml", '<?xml version="1.0"?><a>é<b/></a>'.encode("utf-16")),
    "one line": ("text/plain", b"x" * (1 << 20)),
    "one line of tags": ("application/xml", b"<r>" + b"<a b='c'/>" * 100_000 + b"</r>"),
    "deep": ("application/xml", b"<a>" * 100_000 + b"</a>" * 100_000),
    "deep json": ("application/json", b"[" * 100_000 + b"]" * 100_000),
    "laughs": ("application/xml", LAUGHS.encode()),
    "outside": (
        "application/xml",
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    ),
    "broken": ("application/xml", b"<a><b></a>"),
    "open quote": ("application/xml", b'<a b="' + b"<a b='" * 50_000),
    "open comments": ("application/xml", b"<a>" + b"<!--" * 50_000),
    "strange encoding": ("application/xml; charset=unicode_escape", rb"<a>\u003cb\u003e</a>"),
    "empty": ("application/xml", b""),
}


class Reader(HTMLParser):
    """The text that a browser would show, and every element it would make."""

    def __init__(self, markup):
        super().__init__()
        self.made = set()
        self.text = ""
        # Else text put together with it would be escaped once more.
        self.feed(str(markup))
        self.close()

    def handle_starttag(self, tag, attributes):
        ((name, value),) = attributes
        self.made.add((tag, name, value.partition("-")[0]))

    def handle_data(self, data):
        self.text += data


def squeezed(text):
    return "".join(text.split())


@pytest.mark.parametrize("name", CORPUS)
def test_whatever_it_is_the_markup_is_ours_and_bounded(name):
    content_type, body = CORPUS[name]
    shown = show(content_type, body)
    assert Reader(shown.markup).made <= {("span", "class", "b")}
    assert len(shown.markup) < 2_000_000
    assert shown.shown_bytes <= SHOWN_BYTES
    assert shown.total_bytes == len(body)


def test_what_xml_there_is_is_indented():
    shown = show("application/xml", b"<a b='1'><c/> <d>t <e/> u</d><f></f><!-- x --></a>")
    assert shown.form == "xml"
    assert Reader(shown.markup).text == (
        "<a b='1'>\n  <c/>\n  <d>t <e/> u</d>\n  <f></f>\n  <!-- x -->\n</a>"
    )


def test_json_is_indented_and_its_numbers_are_kept():
    shown = show("application/json", b'{"a":[1.10,-0],"b":{},"c":"x,]"}')
    assert shown.form == "json"
    assert Reader(shown.markup).text == (
        '{\n  "a": [\n    1.10,\n    -0\n  ],\n  "b": {},\n  "c": "x,]"\n}'
    )


@pytest.mark.parametrize(
    ("name", "form", "remark"),
    [
        ("broken", "text", "not well-formed"),
        ("laughs", "text", "document type"),
        ("outside", "text", "document type"),
        ("not utf-8", "text", "not in the encoding"),
        ("open comments", "text", "not well-formed"),
    ],
)
def test_what_cannot_be_read_as_xml_is_plain_text(name, form, remark):
    content_type, body = CORPUS[name]
    shown = show(content_type, body)
    assert (shown.form, remark in shown.remark) == (form, True)
    if name != "open comments":
        assert "⟨byte E9⟩" in shown.markup or Reader(shown.markup).text == body.decode()


def test_what_cannot_be_seen_is_named():
    text = Reader(show(*CORPUS["controls"]).markup).text
    assert text == "a long enough text␀with some␛[31m⟨U+007F⟩of them, and ␍ alone"
    text = Reader(show(*CORPUS["bidi"]).markup).text
    assert text == "an invoice of ⟨U+202E⟩00.001⟨U+202C⟩ euros"


def test_utf_16_is_read():
    assert Reader(show(*CORPUS["utf-16"]).markup).text == '<?xml version="1.0"?>\n<a>é<b/></a>'


def test_a_deep_document_does_not_grow_by_its_indents():
    text = Reader(show(*CORPUS["deep"]).markup).text
    assert max(len(line) - len(line.lstrip()) for line in text.split("\n")) == 2 * INDENTED


def test_what_is_binary_is_shown_in_hex():
    shown = show("application/octet-stream", bytes(range(256)))
    assert shown.form == "hex"
    assert "00000040  40 41 42 43" in shown.markup
    assert "0123456789:;&lt;=&gt;?" in shown.markup
    shown = show("application/octet-stream", bytes(100_000))
    assert (shown.shown_bytes, shown.total_bytes) == (8_192, 100_000)


def test_how_much_is_shown_is_told():
    shown = show("text/plain", b"x" * (1 << 20))
    assert (shown.shown_bytes, shown.total_bytes) == (SHOWN_BYTES, 1 << 20)
    shown = show(*CORPUS["one line of tags"])
    assert shown.form == "xml"
    told = squeezed(Reader(shown.markup).text)
    assert shown.shown_bytes < SHOWN_BYTES
    assert squeezed(CORPUS["one line of tags"][1].decode()).startswith(told)


def expected(text):
    """The text with what cannot be seen named, as ``show`` has it."""
    out = "".join(
        one if one in " \t\n" or one.isprintable() or one.isspace() else odd_name(one)
        for one in text.replace("\r\n", "\n")
    )
    return squeezed(out)


MARKUP = st.lists(
    st.one_of(
        st.sampled_from(
            ["<a>", "</a>", "<b c='d'/>", "<!--", "-->", "<![CDATA[", "]]>", "&amp;", "&", "<", ">"]
        ),
        st.sampled_from(['"', "'", "{", "}", "[", "]", ",", ":", "1", "true", " ", "\n"]),
        st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), max_size=5),
    ),
    max_size=30,
).map("".join)


@given(MARKUP, st.sampled_from(["application/xml", "application/json", "text/plain", ""]))
def test_nothing_is_lost_and_nothing_is_markup(text, content_type):
    shown = show(content_type, text.encode())
    reader = Reader(shown.markup)
    assert reader.made <= {("span", "class", "b")}
    assert shown.form != "hex"
    assert squeezed(reader.text) == expected(text)


@given(
    st.recursive(
        st.just("<a/>"),
        lambda inner: st.lists(inner, min_size=1).map(
            lambda parts: f"<x y='&lt;z'>{''.join(parts)}</x>"
        ),
    )
)
def test_documents_stay_themselves(text):
    shown = show("application/xml", text.encode())
    assert shown.form == "xml"
    assert squeezed(Reader(shown.markup).text) == squeezed(text)


@given(
    st.binary(max_size=300), st.sampled_from(["application/xml", "text/plain; charset=utf-16", ""])
)
def test_any_bytes_are_shown(body, content_type):
    assert Reader(show(content_type, body).markup).made <= {("span", "class", "b")}
