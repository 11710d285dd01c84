"""What is written for readers leads to what is there: pages, examples, commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from restante.cli.program import app

PROJECT = Path(__file__).parents[2]
README = PROJECT / "README.md"
PAGES = sorted((PROJECT / "docs").rglob("*.md"))
WRITTEN = [
    README,
    PROJECT / "CONTRIBUTING.md",
    PROJECT / "CHANGELOG.md",
    PROJECT / "examples/README.md",
]


def linked(page: Path) -> set[Path]:
    """The files of the project that a page has links to."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    files = [link.partition("#")[0] for link in links if not re.match(r"\w+:", link)]
    return {(page.parent / file).resolve() for file in files if file}


@pytest.mark.parametrize("page", [*WRITTEN, *PAGES], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    assert [str(file) for file in linked(page) if not file.exists()] == []


def test_every_page_is_in_the_readme():
    pages = {page for page in PAGES if page.parent.name == "docs"}
    assert len(pages) > 20
    assert {page.name for page in pages - linked(README)} == set()


def test_every_example_is_in_their_list():
    examples = {*PROJECT.glob("examples/node/*.mjs"), *PROJECT.glob("examples/python/*.py")}
    assert len(examples) >= 10
    assert {file.name for file in examples - linked(PROJECT / "examples/README.md")} == set()


def test_every_command_is_in_the_readme():
    listed = re.search(
        r"lists the commands, each with examples: (.*?)\.\n", README.read_text(), re.DOTALL
    )
    assert listed is not None
    commands = typer.main.get_group(app).commands
    assert sorted(re.findall(r"`([a-z-]+)`", listed[1])) == sorted(commands)
