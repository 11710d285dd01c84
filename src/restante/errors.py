"""The one tree of errors, each with a stable ``code`` and the HTTP status it answers with.

    RestanteError
    ├── InvalidInput            the caller's input cannot be accepted
    │   ├── Malformed           400  not JSON, not XML, not the shape asked for
    │   ├── BodyTooLarge        413
    │   ├── UnsupportedMedia    415
    │   ├── OutOfBounds         422  a number outside its bounds (named in ``bounds``)
    │   ├── InvalidName         422
    │   ├── InvalidHeader       422
    │   ├── InvalidUrl          422  nothing may be sent there
    │   ├── IdempotencyKeyReused 422 the key was used for something else
    │   ├── InvalidSigningKey   422  no public key or certificate that can be registered
    │   └── SignatureRefused    422  a client's own signature does not hold: nothing was settled
    │       ├── SignatureRequired    422 the queue takes no outcome without one
    │       ├── SignatureOutOfTime   422 signed too long ago, or in the future
    │       ├── SigningKeyUnknown    422 not one of the client's
    │       └── SigningKeyEnded      422 revoked, or its certificate is not valid now
    ├── Unauthenticated         401
    ├── Forbidden               403
    ├── NotFound                404  unknown, or not the caller's: alike
    ├── MethodNotAllowed        405
    ├── TooSlow                 408  the request did not arrive in its time
    ├── HeadTooLarge            431
    ├── UpgradeRequired         426  a WebSocket is here, and nothing else
    ├── BodyGone                410  what was published is no longer kept
    ├── Conflict                409
    │   ├── LeaseLost           409  the lease is no longer the current one
    │   ├── AlreadyExists       409
    │   ├── Displaced           409  another connection has taken up where this one was
    │   ├── TooManyKeys         409
    │   ├── TooManySigningKeys  409
    │   ├── TooManySecrets      409
    │   ├── LastSecret          409  it is the only one
    │   ├── WebhookChanged      409  by somebody else meanwhile
    │   ├── PaperChanged        409  by another node meanwhile
    │   ├── ReceiptNotSealed    409  it was written only just now: its proof is there in a second
    │   ├── JobEnded            409  there is nothing left of it to pause, resume or cancel
    │   ├── TooManyJobs         409  as many are under way as may be
    │   ├── OperationEnded      409  it never changes again
    │   ├── TooManyOperations   409  as many of this service are open as may be
    │   ├── RequestInProgress   409  the same request is under way
    │   ├── RequestUnknown      409  the same request was begun, and nobody knows what came of it
    │   └── AnswerNotKept       409  the same request was done; its answer is not there to be had
    ├── LogDamaged              500  the log of receipts is not what was signed
    ├── OperationChanged        412  by somebody else meanwhile
    ├── TooManyConnections      429  this principal has as many open as it may
    ├── TooManyRequests         429  this client asks more often than it may
    ├── TooManyGroups           429  of this publisher are open, or too much of their bodies
    ├── TooManyWaiters          429  for outcomes, on this node or of this principal
    ├── TooManySignIns          429  to the operators' page
    ├── PrincipalRequired       400  whose the idempotency key is nobody can tell
    ├── TooManyOpenRequests     429  this principal has as many under way as may be
    ├── TooManyKeptRequests     429  as many of this principal's are remembered as may be
    ├── WebhooksUnavailable     501  this server cannot call
    ├── StoreError
    │   ├── StoreFull           507  no room for new notifications
    │   ├── StoreUnavailable    503  not accepting now; nothing was done
    │   ├── OutcomeUnknown      503  it may or may not have been done
    │   └── ShuttingDown        503
    └── StartupError            the program cannot start (has an exit code, never answered over HTTP)
        ├── ConfigurationError  exit 2
        ├── PortInUse           exit 3
        ├── StoreInUse          exit 4
        └── StoreRefused        exit 5  damaged, or written by a newer version

A code, once published, never changes its meaning. Transports map the tree once, at their edge.
"""

from __future__ import annotations

from typing import ClassVar


class RestanteError(Exception):
    """Base of everything this package raises on purpose. ``str(error)`` is fit for the caller to read."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.title)

    @property
    def detail(self) -> str:
        return str(self.args[0])


class InvalidInput(RestanteError):
    code = "invalid"
    status = 422
    title = "Invalid input"


class Malformed(InvalidInput):
    code = "malformed"
    status = 400
    title = "Malformed request"


class BodyTooLarge(InvalidInput):
    code = "body_too_large"
    status = 413
    title = "Body too large"


class UnsupportedMedia(InvalidInput):
    code = "unsupported_media_type"
    status = 415
    title = "Unsupported media type"


class OutOfBounds(InvalidInput):
    """A number outside its bounds; both ends are inclusive."""

    code = "out_of_bounds"
    title = "Out of bounds"

    def __init__(self, name: str, value: object, low: float, high: float) -> None:
        told = int(value) if isinstance(value, float) and value.is_integer() else value
        super().__init__(f"{name} must be between {low} and {high}, not {told}")
        self.bounds = {"name": name, "minimum": low, "maximum": high}


class InvalidName(InvalidInput):
    code = "invalid_name"
    title = "Invalid name"


class InvalidHeader(InvalidInput):
    code = "invalid_header"
    title = "Invalid header"


class InvalidUrl(InvalidInput):
    code = "invalid_url"
    title = "Invalid URL"


class IdempotencyKeyReused(InvalidInput):
    code = "idempotency_key_reused"
    title = "Idempotency key reused"


class InvalidSigningKey(InvalidInput):
    code = "invalid_signing_key"
    title = "No key to verify signatures with"


class SignatureRefused(InvalidInput):
    code = "signature_invalid"
    title = "The signature does not hold"


class SignatureRequired(SignatureRefused):
    code = "signature_required"
    title = "A signature is required"


class SignatureOutOfTime(SignatureRefused):
    code = "signature_out_of_time"
    title = "Signed at another time"


class SigningKeyUnknown(SignatureRefused):
    code = "signing_key_unknown"
    title = "No such signing key"


class SigningKeyEnded(SignatureRefused):
    code = "signing_key_ended"
    title = "The signing key has ended"


class Unauthenticated(RestanteError):
    code = "unauthenticated"
    status = 401
    title = "No valid key"


class Forbidden(RestanteError):
    code = "forbidden"
    status = 403
    title = "Not allowed for this role"


class NotFound(RestanteError):
    code = "route_not_found"
    status = 404
    title = "Not found"


class QueueNotFound(NotFound):
    code = "queue_not_found"
    title = "No such queue"


class NotificationNotFound(NotFound):
    code = "notification_not_found"
    title = "No such notification"


class LeaseNotFound(NotFound):
    code = "lease_not_found"
    title = "No such lease"


class ReceiptNotFound(NotFound):
    code = "receipt_not_found"
    title = "No such receipt"


class LogDamaged(RestanteError):
    code = "log_damaged"
    title = "The log of receipts is not what was signed"


class LogEmpty(NotFound):
    code = "log_empty"
    title = "Nothing is in the log of receipts"


class ClientNotFound(NotFound):
    code = "client_not_found"
    title = "No such client"


class KeyNotFound(NotFound):
    code = "key_not_found"
    title = "No such key"


class OperatorNotFound(NotFound):
    code = "operator_not_found"
    title = "No such operator"


class SubscriptionNotFound(NotFound):
    code = "subscription_not_found"
    title = "No such subscription"


class WebhookNotFound(NotFound):
    code = "webhook_not_found"
    title = "No webhook"


class SecretNotFound(NotFound):
    code = "secret_not_found"
    title = "No such secret"


class DeadLetterNotFound(NotFound):
    code = "dead_letter_not_found"
    title = "No such dead letter"


class JobNotFound(NotFound):
    code = "job_not_found"
    title = "No such job"


class GroupNotFound(NotFound):
    code = "group_not_found"
    title = "Group not found"


class OperationNotFound(NotFound):
    code = "operation_not_found"
    title = "No such operation"


class RequestNotFound(NotFound):
    code = "request_not_found"
    title = "No such request"


class BodyGone(RestanteError):
    code = "body_gone"
    status = 410
    title = "The body is no longer kept"


class MethodNotAllowed(RestanteError):
    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(f"allowed here: {', '.join(allowed)}")
        self.allowed = allowed


class TooSlow(RestanteError):
    code = "too_slow"
    status = 408
    title = "The request did not arrive in time"


class HeadTooLarge(RestanteError):
    code = "head_too_large"
    status = 431
    title = "The head of the request is too large"


class UpgradeRequired(RestanteError):
    code = "upgrade_required"
    status = 426
    title = "A WebSocket is here"


class Conflict(RestanteError):
    code = "conflict"
    status = 409
    title = "Conflict"


class LeaseLost(Conflict):
    code = "lease_lost"
    title = "Lease lost"


class AlreadyExists(Conflict):
    code = "already_exists"
    title = "Already exists"


class Displaced(Conflict):
    code = "displaced"
    title = "Another connection has taken this one's place"


class TooManyKeys(Conflict):
    code = "too_many_keys"
    title = "Too many active keys"


class TooManySigningKeys(Conflict):
    code = "too_many_signing_keys"
    title = "Too many signing keys"


class TooManySecrets(Conflict):
    code = "too_many_secrets"
    title = "Too many active secrets"


class LastSecret(Conflict):
    code = "last_secret"
    title = "The only secret"


class WebhookChanged(Conflict):
    code = "webhook_changed"
    title = "Changed meanwhile"


class PaperChanged(Conflict):
    code = "changed_meanwhile"
    title = "Changed meanwhile"


class ReceiptNotSealed(Conflict):
    code = "receipt_not_sealed"
    title = "Not in the log yet"


class JobEnded(Conflict):
    code = "job_ended"
    title = "The job has ended"


class TooManyJobs(Conflict):
    code = "too_many_jobs"
    title = "Too many jobs"


class RequestInProgress(Conflict):
    code = "request_in_progress"
    title = "The same request is under way"


class RequestUnknown(Conflict):
    code = "request_unknown"
    title = "Nobody knows what came of the same request"


class AnswerNotKept(Conflict):
    code = "answer_not_kept"
    title = "Done before; the answer was not kept"


class OperationEnded(Conflict):
    code = "operation_ended"
    title = "The operation has ended"


class TooManyOperations(Conflict):
    code = "too_many_operations"
    title = "Too many open operations"


class OperationChanged(RestanteError):
    code = "operation_changed"
    status = 412
    title = "Changed meanwhile"


class TooManyConnections(RestanteError):
    code = "too_many_connections"
    status = 429
    title = "Too many connections"


class TooManyRequests(RestanteError):
    code = "too_many_requests"
    status = 429
    title = "Too many requests"

    def __init__(self, name: str, per_second: float, retry_after_seconds: float) -> None:
        super().__init__(f"{name} may ask {per_second:g} times a second: wait, or ask in batches")
        self.retry_after_seconds = retry_after_seconds


class TooManyGroups(RestanteError):
    code = "too_many_groups"
    status = 429
    title = "Too many groups"


class TooManyWaiters(RestanteError):
    code = "too_many_waiters"
    status = 429
    title = "Too many who wait"


class TooManySignIns(RestanteError):
    """Somebody is guessing, or more sign in at once than passwords are checked for."""

    code = "too_many_sign_ins"
    status = 429
    title = "Too many attempts to sign in"


class TooManyOpenRequests(RestanteError):
    code = "too_many_open_requests"
    status = 429
    title = "Too many requests under way"


class PrincipalRequired(RestanteError):
    code = "principal_required"
    status = 400
    title = "Say who you are"


class TooManyKeptRequests(RestanteError):
    code = "too_many_kept_requests"
    status = 429
    title = "Too many requests are remembered"


class LinkUsed(RestanteError):
    code = "link_used"
    status = 410
    title = "This link opens nothing any more"

    def __init__(self) -> None:
        super().__init__("it was used already, is too old, or never was one: ask for another")


class OpenIdFailed(RestanteError):
    """Signing in by OpenID Connect came to nothing: the provider is away, or what it said does not hold."""

    code = "openid_failed"
    status = 403
    title = "You could not be signed in"


class WebhooksUnavailable(RestanteError):
    code = "webhooks_unavailable"
    status = 501
    title = "No webhooks here"


class StoreError(RestanteError):
    code = "store_error"
    status = 503
    title = "Store error"


class StoreFull(StoreError):
    code = "store_full"
    status = 507
    title = "The store is full"


class StoreUnavailable(StoreError):
    code = "store_unavailable"
    title = "The store is unavailable"


class OutcomeUnknown(StoreError):
    code = "outcome_unknown"
    title = "Outcome unknown"


class ShuttingDown(StoreError):
    code = "shutting_down"
    title = "Shutting down"


class StartupError(RestanteError):
    code = "startup_failed"
    title = "Cannot start"
    exit_code: ClassVar[int] = 1


class ConfigurationError(StartupError):
    code = "configuration_invalid"
    title = "Invalid configuration"
    exit_code = 2


class PortInUse(StartupError):
    code = "port_in_use"
    title = "Port in use"
    exit_code = 3


class StoreInUse(StartupError):
    code = "store_in_use"
    title = "Store in use"
    exit_code = 4


class StoreRefused(StartupError):
    code = "store_refused"
    title = "Store refused"
    exit_code = 5
