"""What is said of a URL that names no store."""

import pytest

from restante.clock import SystemClock
from restante.errors import ConfigurationError
from restante.urls import open_copy_source, open_copy_target, open_store

FOLDERS = "sqlite:///FOLDER (four slashes where it is absolute: sqlite:////var/lib/restante)"


@pytest.mark.parametrize("open_", [open_store, open_copy_source, open_copy_target])
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("/tmp/restante-data", "what was given is no URL and names no store"),
        ("host=db password=open-sesame", "what was given is no URL and names no store"),
        ("mysql://ann:open-sesame@db/restante", "mysql://...@db/restante names no store"),
        ("sqlite://data", "sqlite://data names no store"),
    ],
)
def test_it_is_said_how_a_folder_is_named(open_, given, said):
    with pytest.raises(ConfigurationError) as caught:
        open_(given, SystemClock())
    told = str(caught.value)
    assert told.startswith(said)
    assert f": say {FOLDERS}" in told
    assert "open-sesame" not in told
