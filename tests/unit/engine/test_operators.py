import asyncio

import pytest
from argon2 import PasswordHasher
from tests.unit.engine.house import OPERATOR

from restante.engine import passwords
from restante.engine.acts import Wanted
from restante.engine.operators import Operators
from restante.engine.passwords import Passwords
from restante.errors import (
    AlreadyExists,
    InvalidName,
    OperatorNotFound,
    OutOfBounds,
    TooManySignIns,
)
from restante.operators import Level

PASSWORD = "correct horse battery staple"


def quick():
    return Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


@pytest.fixture
def operators(broker):
    return Operators(broker, quick())


async def test_an_account_is_made_once(operators, broker):
    made = await operators.add("ada", Level.OPERATOR, PASSWORD, OPERATOR)
    assert made.password_hash.startswith("$argon2id$")
    assert PASSWORD not in repr(made)
    with pytest.raises(AlreadyExists):
        await operators.add("ada", Level.ADMIN, PASSWORD, OPERATOR)
    assert await operators.all() == [made]
    (act,) = (await broker.acts.page(Wanted(what="operator"))).acts
    assert (act.subject, act.details) == ("ada", {"role": "operator"})


@pytest.mark.parametrize("name", ["", "a b", "<b>", "a" * 129])
async def test_a_name_is_a_name(operators, name):
    with pytest.raises(InvalidName):
        await operators.add(name, Level.VIEWER, PASSWORD, OPERATOR)
    assert await operators.sign_in(name, PASSWORD) is None


@pytest.mark.parametrize("password", ["", "x" * 11, "x" * 257])
async def test_a_password_has_its_length(operators, password):
    with pytest.raises(OutOfBounds):
        await operators.add("ada", Level.VIEWER, password, OPERATOR)


async def test_signing_in(operators):
    ada = await operators.add("ada", Level.VIEWER, PASSWORD, OPERATOR)
    assert await operators.sign_in("ada", PASSWORD) == ada
    assert await operators.sign_in("ada", "wrong") is None
    assert await operators.sign_in("bob", PASSWORD) is None
    await operators.change("ada", disabled=True, actor=OPERATOR)
    assert await operators.sign_in("ada", PASSWORD) is None
    await operators.change("ada", disabled=False, password="another long one", actor=OPERATOR)
    assert await operators.sign_in("ada", PASSWORD) is None
    assert await operators.sign_in("ada", "another long one") is not None


async def test_the_record_holds_no_hash(operators, broker):
    await operators.add("ada", Level.VIEWER, PASSWORD, OPERATOR)
    await operators.change("ada", password="another long one", level=Level.ADMIN, actor=OPERATOR)
    act = (await broker.acts.page(Wanted(what="operator"))).acts[0]
    assert act.details == {
        "level": "viewer -> admin",
        "password": "changed",
        "stamp": "1 -> 2",
    }


async def test_changes_at_once_are_all_made(operators):
    await operators.add("ada", Level.VIEWER, PASSWORD, OPERATOR)
    changes = [operators.change("ada", sign_out=True, actor=OPERATOR) for _ in range(3)]
    await asyncio.gather(*changes, operators.change("ada", level=Level.ADMIN, actor=OPERATOR))
    ada = await operators.get("ada")
    assert (ada.stamp, ada.level) == (4, Level.ADMIN)


async def test_nobody_is_not_changed(operators):
    with pytest.raises(OperatorNotFound):
        await operators.change("ada", level=Level.ADMIN, actor=OPERATOR)


async def test_only_so_many_wait_for_their_turn(monkeypatch):
    monkeypatch.setattr(passwords, "WAITING", 2)
    some = quick()
    results = await asyncio.gather(*(some.hash(PASSWORD) for _ in range(4)), return_exceptions=True)
    assert [isinstance(result, TooManySignIns) for result in results] == [False, False, True, True]
    assert await some.matches(await some.hash(PASSWORD), PASSWORD)


async def test_without_a_hash_it_works_as_hard():
    class Counting(PasswordHasher):
        verified = 0

        def verify(self, hash, password):
            self.verified += 1
            return super().verify(hash, password)

    hasher = Counting(time_cost=1, memory_cost=8, parallelism=1)
    some = Passwords(hasher)
    assert not await some.matches(None, PASSWORD)
    assert not await some.matches(await some.hash("another"), PASSWORD)
    assert hasher.verified == 2
