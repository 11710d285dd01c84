"""``restante ledger``: the log of receipts, its heads, its proofs, and checking them without believing the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final, Literal

import msgspec
import typer

from restante.cli import evidence, output, remote
from restante.cli.failures import EXIT_FAILED, complain
from restante.cli.remote import Client
from restante.errors import ConfigurationError, LogEmpty, StoreInUse

if TYPE_CHECKING:
    from restante.log_audit import LogAuditor, Verdict
    from restante.wire.checkpoints import TreeHead, VerifierKey
    from restante.wire.ledger_messages import ConsistencyOut
    from restante.wire.proofs import Consistent

app = typer.Typer(help="The log of receipts: proofs, signed heads, and checking them.")

_STEP: Final = 2_000
_HEADS: Final = 1_000
_SERVER: Final = "a server (--url, --key, --data)"

Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="KEY|FILE",
        help="A key that you hold (name+id+key), or a file with one a line. Without any the log's own are taken.",
    ),
]
Heads = Annotated[
    list[Path] | None,
    typer.Option("--head", metavar="FILE", help="Heads that were kept elsewhere, one or many."),
]
Held = Annotated[
    list[str],
    typer.Option(
        "--trust",
        metavar="KEY|FILE",
        help="A key that you hold (name+id+key), or a file with one a line.",
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where to; else to stdout.")
]
Kept = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="FILE", help="Append to this file, with the heads there are in it."
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Read this store, which no server has open, and ask none: sqlite:///DIR (four slashes"
        " before an absolute DIR) or postgresql://...",
    ),
]


@app.command()
@remote.remote
async def head(client: Client, to: Kept = None) -> None:
    """The newest signed head: keep it where the server cannot change it."""
    _keep(to, [await client.ledger_head()])


@app.command("heads")
@remote.remote
async def heads_(
    client: Client,
    after: Annotated[
        int | None, typer.Option(metavar="SIZE", help="Only those of more receipts than that.")
    ] = None,
    to: Kept = None,
) -> None:
    """The heads that the server has kept, the oldest first, as `ledger verify --head` takes them.

    Example: restante ledger heads --out heads.txt
    """
    while True:
        page = await client.ledger_heads(after=after, limit=_HEADS)
        _keep(to, page.heads)
        after = page.next
        if after is None:
            return


@app.command()
@remote.remote
async def keys(client: Client, json: output.Json = False) -> None:
    """The keys that heads are checked with, as the server tells them."""
    found = await client.ledger_keys()
    if json:
        output.emit(found)
        return
    rows = [(one.key, output.clock(one.since)) for one in found.keys]
    output.table(["key", "since"], rows, empty="Nothing was signed yet.")


@app.command("new-key")
def new_key(
    name: Annotated[str, typer.Argument(help="What the key is called, as in receipts.example/1.")],
) -> None:
    """Make a key that signs heads, for ledger_key_file, and tell its public part on stderr.

    Put it on top of that file, in a line of its own, restart, and take the old line away once everybody who checks
    holds the new key.
    """
    import secrets

    from restante.merkle import HASH_BYTES
    from restante.wire.checkpoints import SignerKey

    try:
        made = SignerKey(name, secrets.token_bytes(HASH_BYTES))
    except ValueError as error:
        raise ConfigurationError(
            f"{name} cannot be the name of a key: letters, digits, . _ / -"
        ) from error
    print(made.text)
    output.note(f"Whoever checks takes: {made.verifier.text}")


@app.command()
@remote.remote
async def proof(
    client: Client,
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="As in acme~12.")],
    out: Out = None,
) -> None:
    """The proof that a receipt is in the log, to be kept and handed on."""
    _write(out, await client.proof(receipt) + b"\n")


@app.command()
def export(
    out: Out = None,
    form: Annotated[
        str, typer.Option("--format", help="jsonl, or parquet (the receipts alone, to ask of).")
    ] = "jsonl",
    store: Store = None,
    url: remote.Url = None,
    key: remote.Key = None,
    data: remote.Data = None,
) -> None:
    """The whole log: every receipt, every hash, every head.

    Example: restante ledger export -o receipts.jsonl
    """
    _check_one({"--store": store, _SERVER: url or key or data})
    lines = _lines(None, store, url, key, data)
    if form == "jsonl":
        asyncio.run(_export(lines, out))
    elif form == "parquet":
        if out is None:
            raise ConfigurationError("--format parquet takes --out FILE")
        from restante.cli.parquet import write_parquet

        count = asyncio.run(write_parquet(lines, out))
        output.note(f"{output.count(count, 'receipt')} in {out}")
    else:
        raise ConfigurationError(f"--format is jsonl or parquet, not {form}")


@app.command()
def verify(  # noqa: PLR0913, PLR0917 (one for each option)
    file: Annotated[
        Path | None,
        typer.Argument(metavar="EXPORT", help="An export, in place of a server; - is stdin."),
    ] = None,
    proof: Annotated[
        Path | None, typer.Option("--proof", metavar="FILE", help="Check a single proof.")
    ] = None,
    store: Store = None,
    trust: Keys = None,
    heads: Heads = None,
    retention_seconds: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="How long receipts had to be kept: queues' own settings may have been shortened.",
        ),
    ] = None,
    json: output.Json = False,
    url: remote.Url = None,
    key: remote.Key = None,
    data: remote.Data = None,
) -> None:
    """Check the log of a server, a store or an export, or one proof, and say what is wrong where.

    Nothing is believed but the keys that --trust names.

    Example: restante ledger verify --trust operator.pub --head heads.txt receipts.jsonl
    """
    _check_one({"EXPORT": file, "--proof": proof, "--store": store, _SERVER: url or key or data})
    trusted = evidence.trusted(trust or [])
    if proof is not None:
        if heads or retention_seconds is not None:
            raise ConfigurationError(
                "--proof is checked by itself: --head and --retention-seconds are for a whole log"
            )
        _check_proof(proof, trusted, json=json)
        return
    from restante.clock import SystemClock
    from restante.log_audit import LogAuditor

    known = evidence.held(heads)
    lines = _lines(file, store, url, key, data)
    auditor = LogAuditor(trusted, known, retention_seconds, SystemClock().wall_ms())
    verdict = asyncio.run(_audit(lines, auditor))
    if verdict.head is None and verdict.sound:
        raise LogEmpty("nothing is in the log of receipts yet")
    if json:
        told = msgspec.structs.asdict(verdict)
        output.emit({**told, "head": evidence.shown(verdict.head)})
    else:
        _tell(verdict)
    if not verdict.sound:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def consistency(
    trust: Held,
    heads: Heads = None,
    proof: Annotated[
        Path | None,
        typer.Option(
            "--proof",
            metavar="FILE",
            help="Ask no server: check two heads by what /v1/ledger/consistency has answered of their sizes,"
            " or one and the head in that answer.",
        ),
    ] = None,
    json: output.Json = False,
    url: remote.Url = None,
    key: remote.Key = None,
    data: remote.Data = None,
) -> None:
    """Check that heads which were kept and the server's newest one are of one log, which was only added to.

    Nothing is believed but the keys that --trust names.

    Example: restante ledger consistency --trust operator.pub --head heads.txt
    """
    from restante.wire import proofs

    _check_one({"--proof": proof, _SERVER: url or key or data})
    trusted = evidence.trusted(trust)
    held = evidence.held(heads)
    if not held:
        raise ConfigurationError("give heads that were kept: --head FILE")
    if proof is not None and len(held) > 2:
        raise ConfigurationError(f"--proof is of two heads, and --head names {len(held)}")
    notes = [one.note for one in held]
    try:
        for one in held:
            proofs.read_head(one.place, one.note, proofs.origin_of(notes[0]), trusted)
        if proof is None:
            access = remote.find_access(url, key, data, os.environ)
            shown = asyncio.run(_consistent(access, notes, trusted))
        else:
            shown = [_consistent_by(proofs.read_consistency(evidence.read(proof)), notes, trusted)]
    except proofs.NotProved as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from error
    if json:
        output.emit(
            [{"old": evidence.shown(one.old), "new": evidence.shown(one.new)} for one in shown]
        )
        return
    old, new = shown[0].old, shown[-1].new
    print(
        f"proved: the log of {output.count(old.size, 'receipt')} at {_at(old)} is the beginning of that of"
        f" {new.size:,} at {_at(new)}"
    )
    if len(shown) > 1:
        print(f"and so is each of the {len(shown) - 1:,} between them of the next")


async def _consistent(
    access: remote.Access, notes: Sequence[str], trusted: Sequence[VerifierKey]
) -> list[Consistent]:
    from restante.client import Client as RealClient
    from restante.client.proofs import verify_heads

    async with RealClient(access.url, access.key) as client:
        return await verify_heads(client, notes, trusted)


def _consistent_by(
    proof: ConsistencyOut, notes: Sequence[str], trusted: Sequence[VerifierKey]
) -> Consistent:
    from restante.wire import proofs

    older, newer = [*notes, proof.checkpoint][:2]
    return proofs.check_consistency(proof, older, newer, proofs.origin_of(older), trusted)


def _tell(verdict: Verdict) -> None:
    for finding in verdict.findings:
        complain(str(finding))
    if verdict.count > len(verdict.findings):
        complain(f"and {verdict.count - len(verdict.findings):,} more")
    if verdict.head is not None:
        head = verdict.head
        print(f"head: {output.count(head.size, 'receipt')} at {_at(head)}, {head.root.hex()}")
    print(
        f"looked at {output.count(verdict.receipts, 'receipt')} and {output.count(verdict.heads, 'head')};"
        f" {verdict.pruned:,} are past their time, {verdict.unsealed:,} too new for the log"
    )
    if verdict.unproved:
        output.note(
            f"{output.count(verdict.unproved, 'receipt is', 'receipts are')} gone, and the store's own rows say why:"
            " --retention-seconds says how long they had to be kept."
        )
    if verdict.unjudged:
        output.note(
            f"{output.count(verdict.unjudged, 'head is', 'heads are')} signed by keys that --trust does not name."
        )
    if verdict.signed_by is None:
        output.note("Checked with the log's own keys: name yours with --trust.")
    print("nothing is wrong" if verdict.sound else output.count(verdict.count, "finding"))


def _at(head: TreeHead) -> str:
    from restante.wire import times

    return times.to_text(head.at_ms)


def _check_proof(path: Path, trusted: Sequence[VerifierKey], *, json: bool) -> None:
    from restante.wire import proofs

    if not trusted:
        raise ConfigurationError(
            "--proof takes --trust KEY: without a key that you hold nothing is proved"
        )
    try:
        data = evidence.read(path)
        shown = proofs.check(data, proofs.origin_of(proofs.read(data).checkpoint), trusted)
    except proofs.NotProved as error:
        complain(f"{path}: {error}")
        raise typer.Exit(EXIT_FAILED) from error
    if json:
        output.emit(
            {
                "receipt": shown.receipt,
                "index": shown.index,
                "head": evidence.shown(shown.head),
            }
        )
        return
    found = shown.receipt
    print(
        f"proved: receipt {found.queue}~{found.number} ({found.outcome} at {output.clock(found.at)} by"
        f" {found.principal}) is leaf {shown.index} of the log of {output.count(shown.head.size, 'receipt')}"
    )


def _check_one(sources: Mapping[str, object]) -> None:
    """``ConfigurationError`` where more than one is named: all but one would be passed over."""
    named = [name for name, value in sources.items() if value is not None]
    if len(named) > 1:
        raise ConfigurationError(
            f"this takes one of {', '.join(sources)}, and not {' and '.join(named)}"
        )


# -- what is read -----------------------------------------------------------------------------------


async def _audit(lines: AsyncIterator[bytes], auditor: LogAuditor) -> Verdict:
    """Twice from 0 to 100 %: for the receipts that are read, then for those whose hashes are put together."""
    with output.progress("receipts", None) as bar:
        task = bar.task_ids[0]
        count = 0
        async for line in lines:
            auditor.look(line)
            if count % _STEP == 0:
                bar.update(task, completed=auditor.passed, total=auditor.size)
            count += 1
        bar.update(task, completed=auditor.passed)
        bar.refresh()
        bar.reset(task, description="hashing", total=auditor.size)
        return auditor.verdict(lambda leaves: bar.update(task, completed=leaves))


async def _export(lines: AsyncIterator[bytes], out: Path | None) -> None:
    with _opened(out) as file, output.progress("lines", None) as bar:
        count = 0
        async for line in lines:
            file.write(line + b"\n")
            count += 1
            if count % _STEP == 0:
                bar.update(bar.task_ids[0], completed=count)


async def _lines(
    file: Path | None, store: str | None, url: str | None, key: str | None, data: Path | None
) -> AsyncIterator[bytes]:
    """The lines of an export: a file's, or made of a store or by a server."""
    if file is not None:
        for line in evidence.export_lines(file):
            yield line
    elif store is not None:
        async for line in _of_store(store):
            yield line
    else:
        from restante.client import Client as RealClient

        access = remote.find_access(url, key, data, os.environ)
        async with RealClient(access.url, access.key) as client:
            async for line in client.ledger_export():
                yield line


async def _of_store(url: str) -> AsyncIterator[bytes]:
    from restante.clock import SystemClock
    from restante.engine.log_export import LogExport
    from restante.engine.receipt_log import ReceiptLog
    from restante.urls import folder_of, open_store

    folder = folder_of(url)
    if folder is not None and not folder.is_dir():
        raise ConfigurationError(f"there is no store in {folder}")
    clock = SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(open_store(url, clock))
        except StoreInUse as error:
            complain(error.detail, "Leave out --store to ask the server that has it open.")
            raise typer.Exit(error.exit_code) from error
        export = LogExport(opened, clock, ReceiptLog(opened, clock, ""))
        cursor: str | None = ""
        while cursor is not None:
            page = await export.page(cursor)
            for line in page.lines:
                yield line
            cursor = page.next


def _write(out: Path | None, data: bytes) -> None:
    with _opened(out) as file:
        file.write(data)


def _keep(to: Path | None, heads: Sequence[str]) -> None:
    """Behind those that are there: an earlier head is what a fork would show by."""
    with _opened(to, "ab") as file:
        file.writelines(f"{head}\n".encode() for head in heads)


@contextlib.contextmanager
def _opened(out: Path | None, mode: Literal["wb", "ab"] = "wb") -> Iterator[IO[bytes]]:
    if out is None:
        yield sys.stdout.buffer
        return
    try:
        with out.open(mode) as file:
            yield file
    except OSError as error:
        raise ConfigurationError(f"cannot write {out}: {error.strerror}") from error
