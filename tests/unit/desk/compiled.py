"""Templates that are compiled once for all tests: a site is made for each of them."""

from jinja2 import BytecodeCache, Environment

from restante.desk import templates


class InMemory(BytecodeCache):
    """Of the code of templates, by what they say."""

    def __init__(self):
        self._code = {}

    def load_bytecode(self, bucket):
        if (code := self._code.get((bucket.key, bucket.checksum))) is not None:
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket):
        self._code[bucket.key, bucket.checksum] = bucket.bytecode_to_string()


_KEPT = InMemory()


def use(monkeypatch):
    """Have every site made from here on share them."""

    def made(**options):
        return Environment(bytecode_cache=_KEPT, **options)

    monkeypatch.setattr(templates, "Environment", made)
