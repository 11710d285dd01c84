"""The file that vendors are handed, and the modules that are generated from it."""

import re
import subprocess
import sys
from pathlib import Path

import restante.web
from restante import model
from restante.engine import stream
from restante.rpc import dialogue, handing_out, messages
from restante.wire import proto
from restante.wire.proto import restante_pb2 as pb

FILE = Path(restante.web.__file__).with_name("restante.proto")
TEXT = re.sub(r"\s*\n *// *", " ", FILE.read_text())


def test_the_generated_modules_are_those_of_the_file(tmp_path):
    where = [f"--proto_path={FILE.parent}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *where, FILE.name], check=True)
    (folder,) = proto.__path__
    for made in tmp_path.iterdir():
        assert Path(folder, made.name).read_text() == made.read_text(), "run `make proto`"


def test_every_call_and_every_thing_is_explained():
    lines = FILE.read_text().splitlines()
    for number, line in enumerate(lines):
        named = re.match(r"  rpc |message (?!\w+(?:Request|Response) )", line)
        assert named is None or lines[number - 1].strip().startswith("//"), line


def test_bounds_in_it_are_those_of_the_code():
    for bound in (
        f"{stream.CREDIT_MESSAGES_MAXIMUM:,}",
        f"{stream.CREDIT_BYTES_MAXIMUM:,}",
        f"{stream.CREDIT_BYTES:,}",
        f"{model.LEASE_SECONDS_MAXIMUM:,}",
        f"{model.DELAY_SECONDS_MAXIMUM:,}",
        f"1 to {model.BATCH:,}",
        f"0 to {model.WAIT_SECONDS_MAXIMUM}",
        f"up to {model.REPLY_BYTES // 1024} KiB",
        f"p to {model.REASON_CHARACTERS:,} characters",
        f"p to {model.KEY_CHARACTERS} characters",
        f"{model.ATTRIBUTES_BYTES // 1024} KiB together",
        f"up to {messages.REF_CHARACTERS} characters",
        f"at most {messages.MESSAGE_BYTES // 1024**2} MiB",
        f"at most {messages.RESPONSE_BYTES // 1024**2} MiB of notifications",
        f"more than {messages.PLACES}",
        f"at least every {handing_out.HEARTBEAT_SECONDS:g} seconds",
    ):
        assert bound in TEXT, bound
    assert dialogue.BYTES_UNDER_WAY > messages.MESSAGE_BYTES


def test_members_of_the_service_are_those_that_http_has():
    """What one of them can be asked, the other can be asked too."""
    from restante.wire.messages import NotificationOut, PublicationItem

    publication = {field.name for field in pb.Publication.DESCRIPTOR.fields}
    assert publication == set(PublicationItem.__struct_fields__) - {"body_base64"}
    notification = {field.name for field in pb.Notification.DESCRIPTOR.fields}
    assert notification == set(NotificationOut.__struct_fields__) - {"body_base64"}
