"""Whatever an operation is told to do, it ends once and never changes again."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.errors import InvalidHeader, Malformed, OperationEnded, OutOfBounds
from restante.model import Actor, Role
from restante.operation import (
    RESULT_BYTES,
    Asked,
    Failure,
    Move,
    Operation,
    OperationState,
    Result,
    moved,
    timed_out,
)

START = 1_000
STATES = list(OperationState)
OPEN = [state for state in STATES if not state.ended]


def operation(**fields):
    new = Operation(
        id="o",
        asked=Asked(),
        asked_by=Actor("shop", Role.PUBLISHER, "k"),
        made_at_ms=START,
        ends_by_ms=START + 86_400_000,
        changed_at_ms=START,
    )
    return msgspec.structs.replace(new, **fields)


@st.composite
def moves(draw):
    """Moves that ``check`` lets pass."""
    state = draw(st.none() | st.sampled_from(STATES))
    result = failure = None
    if state is OperationState.SUCCEEDED:
        result = draw(st.none() | st.builds(Result, st.binary(max_size=3)))
    if state is OperationState.FAILED:
        failure = Failure(draw(st.sampled_from(["a", "b"])))
    move = Move(
        state=state,
        progress=draw(st.none() | st.floats(0, 1)),
        note=draw(st.none() | st.sampled_from(["", "a"])),
        result=result,
        failure=failure,
    )
    move.check()
    return move


@given(st.lists(st.tuples(moves(), st.integers(0, 5_000)), max_size=12))
def test_it_ends_once_and_never_goes_back(steps):
    now = operation()
    for move, at in steps:
        before = now
        try:
            now = moved(before, move, at)
        except OperationEnded:
            assert before.state.ended
            continue
        except Malformed:
            assert (before.state, move.state) == (OperationState.RUNNING, OperationState.QUEUED)
            continue
        if before.state.ended:
            assert now is before
        assert STATES.index(now.state) >= STATES.index(before.state)
        assert now.changed_at_ms >= before.changed_at_ms
        assert now.result is None or now.state is OperationState.SUCCEEDED
        assert (now.failure is not None) == (now.state is OperationState.FAILED)
        assert moved(now, move, at + 1) is now, "told twice is told once"


@given(moves())
def test_what_is_kept_reads_back_as_it_was(move):
    now = moved(operation(), move, START + 1)
    assert msgspec.json.decode(msgspec.json.encode(now), type=Operation) == now


@pytest.mark.parametrize("state", OPEN)
def test_one_that_nobody_ended_fails(state):
    move = timed_out(operation(state=state))
    move.check()
    ended = moved(operation(state=state), move, START + 5)
    assert (ended.state, ended.failure) == (OperationState.FAILED, move.failure)


@pytest.mark.parametrize(
    ("move", "error"),
    [
        (Move(progress=1.1), OutOfBounds),
        (Move(progress=float("nan")), OutOfBounds),
        (Move(note="x" * 1_025), OutOfBounds),
        (Move(result=Result(b"")), Malformed),
        (Move(state=OperationState.FAILED), Malformed),
        (Move(state=OperationState.SUCCEEDED, failure=Failure("x")), Malformed),
        (Move(state=OperationState.FAILED, failure=Failure("")), InvalidHeader),
        (Move(state=OperationState.FAILED, failure=Failure("x", "y" * 1_025)), OutOfBounds),
        (
            Move(state=OperationState.SUCCEEDED, result=Result(bytes(RESULT_BYTES + 1))),
            OutOfBounds,
        ),
        (Move(state=OperationState.SUCCEEDED, result=Result(b"", "a\nb")), InvalidHeader),
    ],
)
def test_what_cannot_be(move, error):
    with pytest.raises(error):
        move.check()
