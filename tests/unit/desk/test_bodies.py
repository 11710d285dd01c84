"""Bodies as people read them, whatever is in them."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.desk.bodies import COLOURED, SHOWN_BYTES, json, show, xml

SCRIPT = "<script>alert(1)</script>"
_OURS = re.compile(r'<span class="c-(?:tag|name|value|note|text|odd)">|</span>')


def words(shown):
    """What is read of it; fails where there is markup that is not ours."""
    assert "<" not in _OURS.sub("", shown.markup)
    return html.unescape(_OURS.sub("", shown.markup))


def lines(text, kind="application/xml"):
    shown = show(kind, text.encode())
    return shown.form, words(shown).split("\n")


def test_xml_is_indented():
    form, found = lines(
        '<?xml version="1.0"?><order n="1"><line><sku>A&amp;B</sku><x/></line></order>'
    )
    assert form == "xml"
    assert found == [
        '<?xml version="1.0"?>',
        '<order n="1">',
        "  <line>",
        "    <sku>A&amp;B</sku>",
        "    <x/>",
        "  </line>",
        "</order>",
    ]


def test_text_between_tags_is_left_as_it_is():
    assert lines("<p>one <b>two</b> three</p>") == ("xml", ["<p>one <b>two</b> three</p>"])
    form, found = lines("<a>\n<b> x </b>\n\n<c></c></a>")
    assert (form, found) == ("xml", ["<a>", "  <b> x </b>", "  <c></c>", "</a>"])


@pytest.mark.parametrize(
    "text",
    [
        "<a><b></a>",
        "<a>",
        "</a>",
        "<a></a>after",
        '<a b="<"></a>',
        "<a><!-- never closed</a>",
        "<a><![CDATA[never closed</a>",
        "<",
        "<a b='></a>",
        "<!DOCTYPE a [",
        f"<order>{SCRIPT}<unclosed></order>",
        '{"a": }',
        "[1, 2",
        "[" * 5_000 + "]" * 5_000,
        "plain words",
    ],
)
def test_what_is_broken_is_shown_as_it_came(text):
    assert lines(text) == ("text", text.split("\n"))


@pytest.mark.parametrize(
    "text",
    [
        SCRIPT,
        f"<x xmlns='http://www.w3.org/1999/xhtml'>{SCRIPT}</x>",
        f"<a><![CDATA[{SCRIPT}]]></a>",
        "<a href=\"javascript:alert(1)\" onload='alert(2)'>x</a>",
        f"<a><!--{SCRIPT}--></a>",
        '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b SYSTEM "file:///etc/passwd">]><x>&a;&b;</x>',
    ],
)
def test_markup_is_text(text):
    shown = show("application/xml", text.encode())
    assert shown.form == "xml"
    assert re.sub(r"\s", "", words(shown)) == re.sub(r"\s", "", text)


def test_json_is_indented_and_nothing_of_it_changed():
    form, found = lines('{"a":1.50,"a":[],"b":[true,{"c":"\\u00e9, : }"}]}')
    assert form == "json"
    assert found == [
        "{",
        '  "a": 1.50,',
        '  "a": [],',
        '  "b": [',
        "    true,",
        "    {",
        '      "c": "\\u00e9, : }"',
        "    }",
        "  ]",
        "}",
    ]


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("application/xml", "<a>é</a>".encode("utf-16"), "<a>é</a>"),
        ("application/xml; charset=ISO-8859-1", "<a>é</a>".encode("latin-1"), "<a>é</a>"),
        (
            "application/xml",
            '<?xml version="1.0" encoding="windows-1252"?><a>€</a>'.encode("cp1252"),
            '<?xml version="1.0" encoding="windows-1252"?>\n<a>€</a>',
        ),
        # What is no encoding of text, or could do harm, is not used.
        ("text/html; charset=utf-7", b"+ADw-script+AD4-", "+ADw-script+AD4-"),
        ("text/plain; charset=punycode", b"abc", "abc"),
    ],
)
def test_encodings(kind, body, text):
    assert words(show(kind, body)) == text


def test_what_is_no_text_is_shown_in_hexadecimal():
    shown = show("application/xml", bytes(range(256)) * 100)
    assert (shown.form, shown.shown_bytes, shown.total_bytes) == ("hex", 4_096, 25_600)
    first = words(shown).split("\n")[3]
    assert first == ("000030  30 31 32 33 34 35 36 37  38 39 3a 3b 3c 3d 3e 3f  0123456789:;<=>?")
    assert show("text/plain", b"\xff\xfe\x00").form == "hex"
    assert show("text/plain", b"") == ("empty", "", 0, 0)


def test_what_is_not_seen_is_named():
    found = words(show("text/plain", "a\u202eb\x07c\u200bd\te".encode()))
    assert found == "aU+202EbU+0007cU+200Bd\te"
    found = words(show("text/plain", "pay\xadpal\U000e0041\rover\r\nnext".encode()))
    assert found == "payU+00ADpalU+E0041U+000Dover\r\nnext"


def test_a_part_is_shown_of_what_is_large():
    line = b"<a>" + b"x" * 1_048_576 + b"</a>"
    shown = show("application/xml", line)
    assert (shown.form, shown.shown_bytes) == ("xml", SHOWN_BYTES)
    assert words(shown) == line[:SHOWN_BYTES].decode()
    euros = "€".encode() * 100_000
    assert words(show("text/plain", euros)) == "€" * (SHOWN_BYTES // 3)


@pytest.mark.parametrize(
    "part",
    [
        "<a>",
        "<!--",
        "<![CDATA[",
        "<a b='",
        '<a b="" ',
        "<?",
        "</",
        "<a/>",
        "<!DOCTYPE [",
        "[",
        '{"a":',
    ],
)
def test_what_repeats_without_end_takes_no_longer(part):
    """Linear, whatever it is: a look that scanned to the end at each of these would take hours."""
    shown = show("application/xml", part.encode() * (SHOWN_BYTES // len(part)))
    assert re.sub(r"\s", "", words(shown)) == part.replace(" ", "") * (SHOWN_BYTES // len(part))
    assert len(shown.markup) < 14 * SHOWN_BYTES
    assert shown.markup.count("<span") <= COLOURED


PARTS = st.sampled_from(
    [
        "<a>",
        "</a>",
        "<b c='d'>",
        "</b>",
        "<e/>",
        "x",
        " ",
        "\n",
        "&lt;",
        "<!--n-->",
        "<![CDATA[<]]>",
        '"',
        "{",
        "]",
    ]
)


@given(st.lists(PARTS | st.text(max_size=3), max_size=12).map("".join))
def test_nothing_is_lost_or_taken_for_markup(text):
    for read in (xml, json):
        pieces = read(text)
        if pieces is not None:
            assert re.sub(r"\s", "", "".join(piece.text for piece in pieces)) == re.sub(
                r"\s", "", text
            )
    words(show("text/plain", text.encode("utf-8", "surrogatepass")))


def test_a_long_name_in_a_tag_is_cut_into_words_once():
    """Each word of a tag is read once: read again from each of its letters, this took minutes."""
    tag = f"<a {'b' * 100_000} c='1'/>"
    assert lines(tag) == ("xml", [tag])
