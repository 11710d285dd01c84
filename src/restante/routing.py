"""From a topic to the queues that subscribed to it.

A pattern is words joined by dots; ``*`` stands for exactly one word, ``#`` for any number of words, none included.
A subscription may also filter: every attribute it names must have one of the values it lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from restante.errors import InvalidName
from restante.model import Subscription, check_name

_CACHED_TOPICS = 4_096


def check_pattern(pattern: str) -> str:
    """The pattern itself when each of its words is a name, ``*`` or ``#``; else ``InvalidName``."""
    if len(pattern) > 128:
        raise InvalidName("pattern must be at most 128 characters long")
    for word in pattern.split("."):
        if word not in ("*", "#"):
            check_name("pattern (words joined by dots; a word may be * or #)", word)
    return pattern


def matches(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Whether the pattern's words match the topic's. Linear in their product, whatever the wildcards."""
    # reachable[i]: the pattern's first i words match the topic words read so far.
    reachable = [True] + [False] * len(pattern)
    for index, part in enumerate(pattern):
        reachable[index + 1] = reachable[index] and part == "#"
    for word in words:
        following = [False] * (len(pattern) + 1)
        for index, part in enumerate(pattern):
            if part == "#":
                following[index + 1] = following[index] or reachable[index + 1] or reachable[index]
            else:
                following[index + 1] = reachable[index] and part in ("*", word)
        reachable = following
    return reachable[-1]


class Router:
    """All subscriptions, ready to be asked. Immutable but for a bounded memory of the topics asked last."""

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        self._exact: dict[str, list[Subscription]] = {}
        self._wild: list[tuple[tuple[str, ...], Subscription]] = []
        self._memory: dict[str, tuple[tuple[str, ...], list[Subscription]]] = {}
        for subscription in subscriptions:
            words = tuple(subscription.pattern.split("."))
            if "*" in words or "#" in words:
                self._wild.append((words, subscription))
            else:
                self._exact.setdefault(subscription.pattern, []).append(subscription)

    def queues(self, topic: str, attributes: Mapping[str, str]) -> tuple[str, ...]:
        """The queues to deliver to, each once, sorted by name."""
        known = self._memory.get(topic)
        if known is None:
            known = self._resolve(topic)
            if len(self._memory) >= _CACHED_TOPICS:
                self._memory.pop(next(iter(self._memory)))
            self._memory[topic] = known
        always, filtered = known
        if not filtered:
            return always
        chosen = {s.queue for s in filtered if _passes(s.filter, attributes)}
        return tuple(sorted(chosen.union(always)))

    def _resolve(self, topic: str) -> tuple[tuple[str, ...], list[Subscription]]:
        words = topic.split(".")
        found = list(self._exact.get(topic, ()))
        found += [s for pattern, s in self._wild if matches(pattern, words)]
        always = tuple(sorted({s.queue for s in found if not s.filter}))
        return always, [s for s in found if s.filter]


def _passes(conditions: Mapping[str, Sequence[str]], attributes: Mapping[str, str]) -> bool:
    return all(attributes.get(name) in values for name, values in conditions.items())
