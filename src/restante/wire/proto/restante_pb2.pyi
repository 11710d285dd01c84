import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PublishRequest(_message.Message):
    __slots__ = ("notifications",)
    NOTIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    notifications: _containers.RepeatedCompositeFieldContainer[Publication]
    def __init__(self, notifications: _Optional[_Iterable[_Union[Publication, _Mapping]]] = ...) -> None: ...

class Publication(_message.Message):
    __slots__ = ("queue", "topic", "content_type", "body", "attributes", "idempotency_key", "ordering_key", "collapse_key", "deliver_after_seconds", "expires_after_seconds")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    ORDERING_KEY_FIELD_NUMBER: _ClassVar[int]
    COLLAPSE_KEY_FIELD_NUMBER: _ClassVar[int]
    DELIVER_AFTER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AFTER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    queue: str
    topic: str
    content_type: str
    body: bytes
    attributes: _containers.ScalarMap[str, str]
    idempotency_key: str
    ordering_key: str
    collapse_key: str
    deliver_after_seconds: float
    expires_after_seconds: float
    def __init__(self, queue: _Optional[str] = ..., topic: _Optional[str] = ..., content_type: _Optional[str] = ..., body: _Optional[bytes] = ..., attributes: _Optional[_Mapping[str, str]] = ..., idempotency_key: _Optional[str] = ..., ordering_key: _Optional[str] = ..., collapse_key: _Optional[str] = ..., deliver_after_seconds: _Optional[float] = ..., expires_after_seconds: _Optional[float] = ...) -> None: ...

class PublishResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[PublishResult]
    def __init__(self, results: _Optional[_Iterable[_Union[PublishResult, _Mapping]]] = ...) -> None: ...

class PublishResult(_message.Message):
    __slots__ = ("id", "queues", "deliveries", "replayed", "problem")
    ID_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    id: str
    queues: int
    deliveries: _containers.RepeatedCompositeFieldContainer[Place]
    replayed: bool
    problem: Problem
    def __init__(self, id: _Optional[str] = ..., queues: _Optional[int] = ..., deliveries: _Optional[_Iterable[_Union[Place, _Mapping]]] = ..., replayed: _Optional[bool] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("queue", "seq")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    queue: str
    seq: int
    def __init__(self, queue: _Optional[str] = ..., seq: _Optional[int] = ...) -> None: ...

class PublishStreamRequest(_message.Message):
    __slots__ = ("ref", "notifications")
    REF_FIELD_NUMBER: _ClassVar[int]
    NOTIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    ref: str
    notifications: _containers.RepeatedCompositeFieldContainer[Publication]
    def __init__(self, ref: _Optional[str] = ..., notifications: _Optional[_Iterable[_Union[Publication, _Mapping]]] = ...) -> None: ...

class PublishStreamResponse(_message.Message):
    __slots__ = ("answers", "drain")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    answers: _containers.RepeatedCompositeFieldContainer[PublishAnswer]
    drain: Drain
    def __init__(self, answers: _Optional[_Iterable[_Union[PublishAnswer, _Mapping]]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class PublishAnswer(_message.Message):
    __slots__ = ("ref", "results", "problem")
    REF_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    ref: str
    results: _containers.RepeatedCompositeFieldContainer[PublishResult]
    problem: Problem
    def __init__(self, ref: _Optional[str] = ..., results: _Optional[_Iterable[_Union[PublishResult, _Mapping]]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class ReceiveRequest(_message.Message):
    __slots__ = ("ref", "queue", "credit", "settle", "resume")
    REF_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    SETTLE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    ref: str
    queue: str
    credit: Credit
    settle: _containers.RepeatedCompositeFieldContainer[Settlement]
    resume: str
    def __init__(self, ref: _Optional[str] = ..., queue: _Optional[str] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., settle: _Optional[_Iterable[_Union[Settlement, _Mapping]]] = ..., resume: _Optional[str] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("messages", "bytes", "lease_seconds")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    messages: int
    bytes: int
    lease_seconds: float
    def __init__(self, messages: _Optional[int] = ..., bytes: _Optional[int] = ..., lease_seconds: _Optional[float] = ...) -> None: ...

class ReceiveResponse(_message.Message):
    __slots__ = ("attached", "notifications", "answers", "drain")
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    NOTIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    attached: Attached
    notifications: _containers.RepeatedCompositeFieldContainer[Notification]
    answers: _containers.RepeatedCompositeFieldContainer[Answer]
    drain: Drain
    def __init__(self, attached: _Optional[_Union[Attached, _Mapping]] = ..., notifications: _Optional[_Iterable[_Union[Notification, _Mapping]]] = ..., answers: _Optional[_Iterable[_Union[Answer, _Mapping]]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("queue", "credit", "resume")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    queue: str
    credit: Credit
    resume: str
    def __init__(self, queue: _Optional[str] = ..., credit: _Optional[_Union[Credit, _Mapping]] = ..., resume: _Optional[str] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("attached", "notifications", "drain")
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    NOTIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    attached: Attached
    notifications: _containers.RepeatedCompositeFieldContainer[Notification]
    drain: Drain
    def __init__(self, attached: _Optional[_Union[Attached, _Mapping]] = ..., notifications: _Optional[_Iterable[_Union[Notification, _Mapping]]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ...) -> None: ...

class Attached(_message.Message):
    __slots__ = ("resume",)
    RESUME_FIELD_NUMBER: _ClassVar[int]
    resume: str
    def __init__(self, resume: _Optional[str] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("reconnect_after_seconds",)
    RECONNECT_AFTER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    reconnect_after_seconds: float
    def __init__(self, reconnect_after_seconds: _Optional[float] = ...) -> None: ...

class Notification(_message.Message):
    __slots__ = ("id", "queue", "seq", "lease", "attempt", "topic", "content_type", "body", "attributes", "ordering_key", "published_at", "lease_until")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    ORDERING_KEY_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_AT_FIELD_NUMBER: _ClassVar[int]
    LEASE_UNTIL_FIELD_NUMBER: _ClassVar[int]
    id: str
    queue: str
    seq: int
    lease: str
    attempt: int
    topic: str
    content_type: str
    body: bytes
    attributes: _containers.ScalarMap[str, str]
    ordering_key: str
    published_at: _timestamp_pb2.Timestamp
    lease_until: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., queue: _Optional[str] = ..., seq: _Optional[int] = ..., lease: _Optional[str] = ..., attempt: _Optional[int] = ..., topic: _Optional[str] = ..., content_type: _Optional[str] = ..., body: _Optional[bytes] = ..., attributes: _Optional[_Mapping[str, str]] = ..., ordering_key: _Optional[str] = ..., published_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., lease_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("queue", "max", "wait_seconds", "lease_seconds", "settle")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SETTLE_FIELD_NUMBER: _ClassVar[int]
    queue: str
    max: int
    wait_seconds: float
    lease_seconds: float
    settle: _containers.RepeatedCompositeFieldContainer[Settlement]
    def __init__(self, queue: _Optional[str] = ..., max: _Optional[int] = ..., wait_seconds: _Optional[float] = ..., lease_seconds: _Optional[float] = ..., settle: _Optional[_Iterable[_Union[Settlement, _Mapping]]] = ...) -> None: ...

class PullResponse(_message.Message):
    __slots__ = ("notifications", "settled")
    NOTIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    notifications: _containers.RepeatedCompositeFieldContainer[Notification]
    settled: _containers.RepeatedCompositeFieldContainer[SettleResult]
    def __init__(self, notifications: _Optional[_Iterable[_Union[Notification, _Mapping]]] = ..., settled: _Optional[_Iterable[_Union[SettleResult, _Mapping]]] = ...) -> None: ...

class Settlement(_message.Message):
    __slots__ = ("lease", "ack", "nack", "reject", "release", "extend", "signature")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    NACK_FIELD_NUMBER: _ClassVar[int]
    REJECT_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    lease: str
    ack: Ack
    nack: Nack
    reject: Reject
    release: Release
    extend: Extension
    signature: Signature
    def __init__(self, lease: _Optional[str] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., nack: _Optional[_Union[Nack, _Mapping]] = ..., reject: _Optional[_Union[Reject, _Mapping]] = ..., release: _Optional[_Union[Release, _Mapping]] = ..., extend: _Optional[_Union[Extension, _Mapping]] = ..., signature: _Optional[_Union[Signature, _Mapping]] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("key", "at", "notification", "body_sha256", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    NOTIFICATION_FIELD_NUMBER: _ClassVar[int]
    BODY_SHA256_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    at: str
    notification: str
    body_sha256: str
    value: bytes
    def __init__(self, key: _Optional[str] = ..., at: _Optional[str] = ..., notification: _Optional[str] = ..., body_sha256: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("reply", "reply_content_type")
    REPLY_FIELD_NUMBER: _ClassVar[int]
    REPLY_CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    reply: bytes
    reply_content_type: str
    def __init__(self, reply: _Optional[bytes] = ..., reply_content_type: _Optional[str] = ...) -> None: ...

class Nack(_message.Message):
    __slots__ = ("reason", "retry_after_seconds")
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    retry_after_seconds: float
    def __init__(self, reason: _Optional[str] = ..., retry_after_seconds: _Optional[float] = ...) -> None: ...

class Reject(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Extension(_message.Message):
    __slots__ = ("lease_seconds",)
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    lease_seconds: float
    def __init__(self, lease_seconds: _Optional[float] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("ref", "results", "problem")
    REF_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    ref: str
    results: _containers.RepeatedCompositeFieldContainer[SettleResult]
    problem: Problem
    def __init__(self, ref: _Optional[str] = ..., results: _Optional[_Iterable[_Union[SettleResult, _Mapping]]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class SettleRequest(_message.Message):
    __slots__ = ("settle",)
    SETTLE_FIELD_NUMBER: _ClassVar[int]
    settle: _containers.RepeatedCompositeFieldContainer[Settlement]
    def __init__(self, settle: _Optional[_Iterable[_Union[Settlement, _Mapping]]] = ...) -> None: ...

class SettleResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SettleResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SettleResult, _Mapping]]] = ...) -> None: ...

class ExtendRequest(_message.Message):
    __slots__ = ("leases", "lease_seconds")
    LEASES_FIELD_NUMBER: _ClassVar[int]
    LEASE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    leases: _containers.RepeatedScalarFieldContainer[str]
    lease_seconds: float
    def __init__(self, leases: _Optional[_Iterable[str]] = ..., lease_seconds: _Optional[float] = ...) -> None: ...

class ExtendResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SettleResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SettleResult, _Mapping]]] = ...) -> None: ...

class SettleResult(_message.Message):
    __slots__ = ("outcome", "state", "receipt", "lease_until", "problem")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    LEASE_UNTIL_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    outcome: str
    state: str
    receipt: str
    lease_until: _timestamp_pb2.Timestamp
    problem: Problem
    def __init__(self, outcome: _Optional[str] = ..., state: _Optional[str] = ..., receipt: _Optional[str] = ..., lease_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., problem: _Optional[_Union[Problem, _Mapping]] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("code", "detail", "status")
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    code: str
    detail: str
    status: int
    def __init__(self, code: _Optional[str] = ..., detail: _Optional[str] = ..., status: _Optional[int] = ...) -> None: ...
