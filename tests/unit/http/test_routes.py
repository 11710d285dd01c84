"""Which route a path has: what is named exactly, then what stands for one segment, then what takes all the rest."""

import pytest

from restante.errors import MethodNotAllowed, NotFound
from restante.http.api import Routes


class Named:
    """A handler that can be told from others."""

    def __init__(self, path):
        self.path = path

    async def __call__(self, request):
        raise AssertionError


@pytest.fixture
def routes():
    routes = Routes()
    for path in (
        "/a",
        "/a/{one}/b",
        "/a/x/c",
        "/keys/{key...}",
        "/site/a/{one}",
    ):
        routes.add("GET", path, Named(path))
    routes.add_nothing("/site/{rest...}", Named("/site/{rest...}"))
    return routes


@pytest.mark.parametrize(
    ("path", "found", "parameters"),
    [
        ("/a", "/a", {}),
        ("/a/1/b", "/a/{one}/b", {"one": "1"}),
        ("/a/x/c", "/a/x/c", {}),
        ("/keys/k", "/keys/{key...}", {"key": "k"}),
        ("/keys/k/l//m", "/keys/{key...}", {"key": "k/l//m"}),
        ("/keys/", "/keys/{key...}", {"key": ""}),
        ("/site/a/1", "/site/a/{one}", {"one": "1"}),
        ("/site/a", "/site/{rest...}", {"rest": "a"}),
        ("/site/a/", "/site/{rest...}", {"rest": "a/"}),
        ("/site/a/1/b", "/site/{rest...}", {"rest": "a/1/b"}),
        ("/site/", "/site/{rest...}", {"rest": ""}),
    ],
)
def test_found(routes, path, found, parameters):
    route, given = routes.find("GET", path)
    assert (route.handler.path, given) == (found, parameters)


@pytest.mark.parametrize("path", ["", "/", "/b", "/a/", "/a/x", "/a/1", "/a/1/c", "/keys", "/site"])
def test_not_found(routes, path):
    with pytest.raises(NotFound):
        routes.find("GET", path)


@pytest.mark.parametrize("path", ["/a", "/a/x/c", "/keys/k/l", "/site/a/1"])
def test_another_method(routes, path):
    with pytest.raises(MethodNotAllowed) as caught:
        routes.find("PUT", path)
    assert caught.value.allowed == ("GET",)


@pytest.mark.parametrize("path", ["/site/nothing", "/site/a", "/site/a/1/b", "/site/"])
def test_where_nothing_is_there_is_no_other_method_either(routes, path):
    with pytest.raises(NotFound):
        routes.find("PUT", path)
