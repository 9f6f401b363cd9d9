"""The provider's metadata and keys, kept (OIDC Discovery §4, CORE §10.1.1).

Old copies are served while new ones are fetched; a failed or refused fetch keeps the last good copy (META-5, F29, F30); each
kind of fetch runs once at a time. An unknown key id or a broken signature causes one fetch per ``cooldown_s``, whoever asks
and however often, and in between the answer is no (JWKS-2, J9); or, for a token that the provider itself has just handed
us, not yet.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from bff.base.clock import Clock
from bff.base.errors import ProviderError, ProviderUnavailable, TokenInvalid
from bff.base.events import Event, EventKind, Probe, no_probe
from bff.base.flight import Flights
from bff.oauth.answers import read_document
from bff.oauth.client import Wire
from bff.oauth.jose import CompactJws
from bff.oauth.jsontext import JsonObject
from bff.oauth.keys import PublishedKeys, read_published_keys
from bff.oauth.metadata import read_provider, well_known_urls
from bff.oauth.types import Provider

FETCH_TIMEOUT_S: Final = 4.0
"""One fetch, waiting user included. With ``MAX_PAUSE_S`` it bounds how soon a returned provider is noticed (F24: 5 s)."""

MAX_PAUSE_S: Final = 3.0
_FIRST_PAUSE_S: Final = 0.5
_MAX_RETRY_AFTER_S: Final = 30.0
TIMER_SLACK_S: Final = 0.01
"""Timers of uvloop count milliseconds and may be up to one early: a new key was then not looked for after all."""


class Attempts:
    """When the next fetch may start: at once after success, after a growing, jittered pause (at most 3 s) after failure.

    Pauses count from the *start* of the failed attempt, so a fetch that timed out has already waited.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._not_before = 0.0

    @property
    def failing(self) -> bool:
        """The last one failed."""
        return self._failures > 0

    def wait_s(self) -> float:
        return max(0.0, self._not_before - self._clock.monotonic())

    def succeeded(self) -> None:
        self._failures = 0
        self._not_before = 0.0

    def failed(self, started_at: float, retry_after_s: float | None) -> None:
        pause: float = min(_FIRST_PAUSE_S * 2 ** min(self._failures, 8), MAX_PAUSE_S) * random.uniform(0.8, 1.0)  # noqa: S311 - jitter
        self._failures += 1
        asked = 0.0 if retry_after_s is None else self._clock.monotonic() + min(retry_after_s, _MAX_RETRY_AFTER_S)
        self._not_before = max(started_at + pause, asked)


class Directory:
    """Metadata and keys of one issuer. Needs no start; ``run()`` keeps it warm, ``close()`` ends what it started."""

    def __init__(
        self,
        *,
        issuer: str,
        wire: Wire,
        clock: Clock,
        probe: Probe = no_probe,
        danger_plain_http: bool = False,
        metadata_ttl_s: float = 3600.0,
        keys_ttl_s: float = 600.0,
        cooldown_s: float = 5.0,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._issuer = issuer
        self._wire = wire
        self._clock = clock
        self._probe = probe
        self._plain_http = danger_plain_http
        self._metadata_ttl_s = metadata_ttl_s
        self._keys_ttl_s = keys_ttl_s
        self._cooldown_s = cooldown_s
        self._pause = pause
        self._provider: Provider | None = None
        self._provider_until = 0.0
        self._keys: PublishedKeys | None = None
        self._keys_until = 0.0
        self._refetch_not_before = 0.0
        self._refetching = False
        self._attempts = {"metadata": Attempts(clock), "keys": Attempts(clock)}
        self._flights: Flights[str, None] = Flights()
        self._background: set[asyncio.Future[None]] = set()

    @property
    def known(self) -> Provider | None:
        """The last good metadata without asking anybody: readiness is false while this is None (META-5)."""
        return self._provider

    @property
    def failing(self) -> bool:
        """The last fetch of metadata or keys failed: what there is, is from before (F24, F29)."""
        return any(attempts.failing for attempts in self._attempts.values())

    async def provider(self) -> Provider:
        """The metadata. A stale copy is returned at once and renewed behind the caller's back. ProviderError when there is none."""
        if self._provider is None:
            await self._fetch("metadata", self._fetch_metadata)
        elif self._clock.monotonic() >= self._provider_until and not self._background:
            self._start(self._fetch("metadata", self._fetch_metadata))
        if self._provider is None:
            raise ProviderUnavailable("no metadata")
        return self._provider

    async def check_signature(self, jws: CompactJws, *, patient: bool = False) -> CompactJws:
        """``jws``, if one of the provider's present keys verifies it. TokenInvalid ``kid`` or ``signature``; ProviderError.

        ``patient``: a token straight from the provider. Its unknown key is new, not invented, so the cooldown is waited for (F28).
        """
        keys = await self._current_keys()
        fault = keys.find_fault(jws)
        if fault:
            if patient and fault == "kid":
                await self._wait_for_refetch()
            newer = await self._newer_keys(keys)
            fault = newer.find_fault(jws) if newer is not None else fault
        if fault:
            self._probe(Event(EventKind.KEY_MISS, outcome=fault, fields={"alg": jws.alg}))
            raise TokenInvalid(fault, "no published key verifies it")
        return jws

    async def run(self, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Keeps both copies fresh until cancelled: fetches what is missing or stale, waits as the pauses say."""
        while True:
            try:
                await self.provider()
                await self._current_keys()
                pause = MAX_PAUSE_S
            except ProviderError as error:
                pause = getattr(error, "retry_after_s", None) or _FIRST_PAUSE_S
            await sleep(pause)

    async def close(self) -> None:
        for task in list(self._background):
            task.cancel()
        await self._flights.drain(0.0)

    async def _current_keys(self) -> PublishedKeys:
        # Stale keys are not served while a fetch is possible: a key that was taken out must stop verifying (JWKS-3).
        if self._keys is None or self._clock.monotonic() >= self._keys_until:
            try:
                await self._fetch("keys", self._fetch_keys)
            except ProviderError:
                if self._keys is None:
                    raise
        if self._keys is None:
            raise ProviderUnavailable("no keys")
        return self._keys

    async def _wait_for_refetch(self) -> None:
        wait_s = self._refetch_not_before - self._clock.monotonic()
        if wait_s > 0 and not self._refetching:
            await self._pause(wait_s + TIMER_SLACK_S)

    async def _newer_keys(self, tried: PublishedKeys) -> PublishedKeys | None:
        """Keys other than ``tried``, fetched if the cooldown permits; None when there are none. Fails closed."""
        now = self._clock.monotonic()
        if not self._refetching and now < self._refetch_not_before:
            return self._keys if self._keys != tried else None
        if not self._refetching:
            self._refetching = True
            self._refetch_not_before = now + self._cooldown_s
        try:
            await self._flights.join("refetch", self._refetch)
        except ProviderError:
            return None
        return self._keys if self._keys != tried else None

    async def _refetch(self) -> None:
        try:
            await self._fetch_keys()
        finally:
            self._refetching = False

    async def _fetch(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Join or start ``work``; ProviderUnavailable at once while pausing after a failure."""
        wait_s = self._attempts[what].wait_s()
        if wait_s:
            raise ProviderUnavailable(f"{what}: waiting before the next attempt", retry_after_s=wait_s)
        await self._flights.join(what, work)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Future[None]) -> None:
        self._background.discard(task)
        if not task.cancelled():
            task.exception()  # the attempt has been reported by _attempt; the old copy stays

    async def _fetch_metadata(self) -> None:
        async def work() -> None:
            document = await self._find_metadata()
            self._provider = read_provider(document, issuer=self._issuer, plain_http=self._plain_http)
            self._provider_until = self._clock.monotonic() + self._metadata_ttl_s

        await self._attempt("metadata", work)

    async def _find_metadata(self) -> JsonObject:
        answer = None
        for url in well_known_urls(self._issuer):
            answer = await self._wire.get(url, timeout_s=FETCH_TIMEOUT_S)
            if answer.status != 404:
                return read_document(answer, "metadata")
        raise ProviderUnavailable("metadata: not found at either well-known place")

    async def _fetch_keys(self) -> None:
        url = (await self.provider()).jwks_uri

        async def work() -> None:
            found = read_published_keys(read_document(await self._wire.get(url, timeout_s=FETCH_TIMEOUT_S), "key set"))
            if found is None:
                raise ProviderUnavailable("key set: no usable key")
            self._keys = found
            self._keys_until = self._clock.monotonic() + self._keys_ttl_s

        await self._attempt("keys", work)

    async def _attempt(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        started_at = self._clock.monotonic()
        try:
            await work()
        except ProviderError as error:
            self._attempts[what].failed(started_at, getattr(error, "retry_after_s", None))
            self._probe(Event(EventKind.KEY_SET_FETCHED, outcome=error.code, fields={"what": what, "why": error.detail}))
            raise
        self._attempts[what].succeeded()
        self._probe(Event(EventKind.KEY_SET_FETCHED, fields={"what": what}))
