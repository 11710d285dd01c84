"""The status codes of gRPC and Connect, and which of them stands for which error: mapped here and only here."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from restante import errors
from restante.errors import RestanteError


class Code(enum.IntEnum):
    """gRPC's numbers. Connect has the same codes by their names in lower case, and spells them so."""

    CANCELED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# An error has the code of its nearest class here. A number out of bounds is INVALID_ARGUMENT: OUT_OF_RANGE is for what
# may come right by itself. So is what is too large for a queue: RESOURCE_EXHAUSTED invites to try again.
_CODES: Final[Mapping[type[BaseException], Code]] = {
    errors.RestanteError: Code.INTERNAL,
    errors.InvalidInput: Code.INVALID_ARGUMENT,
    errors.UnsupportedMedia: Code.UNIMPLEMENTED,
    errors.IdempotencyKeyReused: Code.ALREADY_EXISTS,
    errors.Unauthenticated: Code.UNAUTHENTICATED,
    errors.Forbidden: Code.PERMISSION_DENIED,
    errors.NotFound: Code.NOT_FOUND,
    errors.BodyGone: Code.NOT_FOUND,
    errors.LinkUsed: Code.NOT_FOUND,
    errors.OpenIdFailed: Code.PERMISSION_DENIED,
    errors.MethodNotAllowed: Code.UNIMPLEMENTED,
    errors.UpgradeRequired: Code.UNIMPLEMENTED,
    errors.TooSlow: Code.DEADLINE_EXCEEDED,
    errors.HeadTooLarge: Code.RESOURCE_EXHAUSTED,
    errors.Conflict: Code.FAILED_PRECONDITION,
    errors.OperationChanged: Code.FAILED_PRECONDITION,
    errors.AlreadyExists: Code.ALREADY_EXISTS,
    errors.Displaced: Code.ABORTED,
    errors.TooManyConnections: Code.RESOURCE_EXHAUSTED,
    errors.TooManyOpenRequests: Code.RESOURCE_EXHAUSTED,
    errors.PrincipalRequired: Code.INVALID_ARGUMENT,
    errors.TooManyKeptRequests: Code.RESOURCE_EXHAUSTED,
    errors.TooManyRequests: Code.RESOURCE_EXHAUSTED,
    errors.TooManyGroups: Code.RESOURCE_EXHAUSTED,
    errors.TooManyWaiters: Code.RESOURCE_EXHAUSTED,
    errors.TooManySignIns: Code.RESOURCE_EXHAUSTED,
    errors.WebhooksUnavailable: Code.UNIMPLEMENTED,
    errors.StoreError: Code.UNAVAILABLE,
    errors.StoreFull: Code.RESOURCE_EXHAUSTED,
    errors.OutcomeUnknown: Code.UNKNOWN,
}


DETAIL_CHARACTERS: Final = 1_000
"""What an error says may repeat what it was given, and a status has to fit in the trailers."""


def detail_of(error: RestanteError) -> str:
    """What the error says, for people."""
    return error.detail[:DETAIL_CHARACTERS]


def code_of(error: RestanteError) -> Code:
    """The status code of a call that ends with this error."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)
