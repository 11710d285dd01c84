"""``restante ledger``: the log of receipts, its heads, its proofs, and checking them without believing the server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final, Literal

import typer

from restante.cli import output, remote
from restante.cli.failures import EXIT_FAILED, complain
from restante.cli.remote import Client
from restante.errors import ConfigurationError, Malformed

if TYPE_CHECKING:
    from restante.log_audit import LogAuditor, Verdict
    from restante.wire.checkpoints import TreeHead, VerifierKey
    from restante.wire.ledger_messages import ConsistencyOut
    from restante.wire.proofs import Consistent

app = typer.Typer(help="The log of receipts: proofs, signed heads, and checking them.")

_STEP: Final = 2_000
_HEADS: Final = 1_000
_HEAD_BYTES: Final = 64 * 1024 * 1024

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
        metavar="URL", help="Read this store, and ask no server: sqlite:///DIR or postgresql://..."
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

    Put it on a line of that file, restart, and take the old line away once everybody who checks holds the new key.
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
    lines = _lines(None, store, url, key, data)
    if form == "jsonl":
        asyncio.run(_export(lines, out))
    elif form == "parquet":
        if out is None:
            raise ConfigurationError("--format parquet takes --out FILE")
        from restante.cli.parquet import write_parquet

        count = asyncio.run(write_parquet(lines, out))
        output.note(f"{count:,} receipts in {out}")
    else:
        raise ConfigurationError(f"--format is jsonl or parquet, not {form}")


@app.command()
def verify(  # noqa: PLR0913, PLR0917 (one for each option)
    file: Annotated[
        Path | None, typer.Argument(metavar="[EXPORT]", help="An export, in place of a server.")
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
    trusted = _trusted(trust or [])
    if proof is not None:
        _check_proof(proof, trusted, json=json)
        return
    from restante.clock import SystemClock
    from restante.log_audit import LogAuditor

    known = [note for path in heads or [] for note in _notes(path)]
    lines = _lines(file, store, url, key, data)
    auditor = LogAuditor(trusted, known, retention_seconds, SystemClock().wall_ms())
    verdict = asyncio.run(_audit(lines, auditor))
    if json:
        output.emit(verdict)
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

    trusted = _trusted(trust)
    notes = [note for path in heads or [] for note in _notes(path)]
    if not notes:
        raise ConfigurationError("give heads that were kept: --head FILE")
    if proof is not None and len(notes) > 2:
        raise ConfigurationError(f"--proof is of two heads, and --head names {len(notes)}")
    try:
        if proof is None:
            access = remote.find_access(url, key, data, os.environ)
            shown = asyncio.run(_consistent(access, notes, trusted))
        else:
            shown = [_consistent_by(proofs.read_consistency(_read(proof)), notes, trusted)]
    except proofs.NotProved as error:
        complain(str(error))
        raise typer.Exit(EXIT_FAILED) from error
    if json:
        output.emit(shown)
        return
    old, new = shown[0].old, shown[-1].new
    print(
        f"proved: the log of {old.size:,} receipts at {_at(old)} is the beginning of that of {new.size:,} at {_at(new)}"
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
        print(f"head: {head.size:,} receipts at {_at(head)}, {head.root.hex()}")
    print(
        f"looked at {verdict.receipts:,} receipts and {verdict.heads:,} heads;"
        f" {verdict.pruned:,} are past their time, {verdict.unsealed:,} too new for the log"
    )
    if verdict.unproved:
        output.note(
            f"{verdict.unproved:,} receipts are gone, and the store's own rows say why:"
            " --retention-seconds says how long they had to be kept."
        )
    if verdict.unjudged:
        output.note(f"{verdict.unjudged:,} heads are signed by keys that --trust does not name.")
    if verdict.signed_by is None:
        output.note("Checked with the log's own keys: name yours with --trust.")
    print("nothing is wrong" if verdict.sound else f"{verdict.count:,} findings")


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
        data = _read(path)
        shown = proofs.check(data, proofs.origin_of(proofs.read(data).checkpoint), trusted)
    except proofs.NotProved as error:
        complain(f"{path}: {error}")
        raise typer.Exit(EXIT_FAILED) from error
    if json:
        output.emit(shown)
        return
    found = shown.receipt
    print(
        f"proved: receipt {found.queue}~{found.number} ({found.outcome} at {output.clock(found.at)} by"
        f" {found.principal}) is leaf {shown.index} of the log of {shown.head.size:,} receipts"
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
        from restante.wire.log_lines import lines_of

        try:
            with file.open("rb") as lines:
                for line in lines_of(lines):
                    yield line
        except OSError as error:
            raise ConfigurationError(f"cannot read {file}: {error.strerror}") from error
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
    async with open_store(url, clock) as opened:
        export = LogExport(opened, clock, ReceiptLog(opened, clock, ""))
        cursor: str | None = ""
        while cursor is not None:
            page = await export.page(cursor)
            for line in page.lines:
                yield line
            cursor = page.next


def _trusted(given: Sequence[str]) -> list[VerifierKey]:
    """The keys that ``--trust`` names: each itself, or a file of them, as ``restante ledger keys`` prints them too."""
    from restante.wire.checkpoints import VerifierKey

    found: list[VerifierKey] = []
    for one in given:
        lines = [one] if "+" in one else _read(Path(one)).decode(errors="replace").splitlines()
        texts = [word for line in lines for word in line.split()[:1] if "+" in word]
        if not texts:
            raise ConfigurationError(f"--trust {one}: there is no key in it")
        try:
            found += map(VerifierKey.parse, texts)
        except ValueError as error:
            raise ConfigurationError(f"--trust {one}: {error}") from error
    return found


def _notes(path: Path) -> list[str]:
    """The heads of a file, with empty lines between them. ``Malformed`` where it has none."""
    from restante.wire.checkpoints import notes_of

    notes = notes_of(_read(path).decode(errors="replace"))
    if not notes:
        raise Malformed(f"{path} has no signed heads")
    return notes


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_HEAD_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > _HEAD_BYTES:
        raise Malformed(f"{path} is longer than what it should be")
    return data


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
