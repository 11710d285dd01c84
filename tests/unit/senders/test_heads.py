"""Heads in a file: each is there whole, or not at all."""

import os
import stat

import pytest

from restante.errors import ConfigurationError
from restante.senders.heads import LAST_BYTES, in_file, of_file, to_file
from restante.wire.checkpoints import SignerKey, TreeHead, to_note

KEY = SignerKey("receipts.example", b"\x01" * 32)


def head(size):
    return to_note("receipts.example", TreeHead(size, bytes(32), size), [KEY, KEY])


async def test_heads_are_appended_and_read_again(tmp_path):
    file = tmp_path / "heads.txt"
    assert of_file(file) == []
    for size in range(3):
        await to_file(file)(head(size))
    assert of_file(file) == [head(0), head(1), head(2)]


@pytest.mark.parametrize("cut", [1, 20, 100])
async def test_what_was_cut_off_spoils_no_other(tmp_path, cut):
    file = tmp_path / "heads.txt"
    await to_file(file)(head(1))
    with file.open("a") as appending:
        appending.write(head(2)[:cut])
    await to_file(file)(head(3))
    assert of_file(file) == [head(1), head(3)]


async def test_of_a_long_file_the_last_are_read(tmp_path):
    file = tmp_path / "heads.txt"
    all_of_them = [head(size) for size in range(1_000)]
    file.write_text("".join(f"{one}\n" for one in all_of_them))
    read = of_file(file)
    assert read == all_of_them[-len(read) :]
    assert LAST_BYTES / 2 < sum(map(len, read)) < LAST_BYTES


async def test_a_full_disk_leaves_no_half(tmp_path, monkeypatch):
    file = tmp_path / "heads.txt"
    await to_file(file)(head(1))

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            await to_file(file)(head(2))
    assert file.read_text() == head(1) + "\n"


def test_a_file_that_cannot_be_read_is_told_of(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read"):
        of_file(tmp_path)


async def test_it_is_told_whether_a_head_is_in_a_file(tmp_path):
    file = tmp_path / "heads.txt"
    holds = in_file(file)
    assert not await holds(head(1))
    for size in (1, 2):
        await to_file(file)(head(size))
    assert await holds(head(1))
    assert await holds(head(2))
    assert not await holds(head(3))
    os.truncate(file, 0)
    assert not await holds(head(2))


async def test_the_name_of_a_file_that_was_just_made_is_as_durable_as_what_is_in_it(
    tmp_path, monkeypatch
):
    synced = []
    fsync = os.fsync

    def noted(handle):
        synced.append(stat.S_ISDIR(os.fstat(handle).st_mode))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    tell = to_file(tmp_path / "heads.txt")
    await tell(head(1))
    assert synced == [True, False]
    await tell(head(2))
    assert synced == [True, False, False]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "heads.txt")
    await to_file(tmp_path / "link")(head(1))
    assert synced[3:] == [True, False]


async def test_a_file_in_a_folder_that_cannot_be_opened_is_appended_to(tmp_path, monkeypatch):
    file = tmp_path / "heads.txt"
    file.touch()
    opened = os.open

    def refusing(path, flags, *rest):
        if flags & os.O_DIRECTORY:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", refusing)
    await to_file(file)(head(1))
    assert of_file(file) == [head(1)]
