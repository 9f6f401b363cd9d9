"""What every package leans on: single flight, secrets, time, systemd, errors."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import time
from pathlib import Path

import pytest

from bff.base import errors
from bff.base.clock import FakeClock, SystemClock
from bff.base.events import Event, EventKind, no_probe
from bff.base.flight import Flights
from bff.base.secret import Secret
from bff.base.systemd import environ_fds, notify_systemd, watchdog_s


@pytest.mark.row("TOKEN-6")
async def test_callers_that_ask_at_once_share_one_piece_of_work() -> None:
    flights: Flights[str, int] = Flights()
    runs = []
    gate = asyncio.Event()

    async def work() -> int:
        runs.append(1)
        await gate.wait()
        return 7

    waiting = [asyncio.create_task(flights.join("a", work)) for _ in range(5)]
    await asyncio.sleep(0)
    assert len(flights) == 1
    gate.set()
    assert await asyncio.gather(*waiting) == [7] * 5
    assert len(runs) == 1
    await asyncio.sleep(0)
    assert len(flights) == 0


@pytest.mark.row("TOKEN-8")
async def test_a_caller_that_leaves_does_not_cancel_the_work() -> None:
    flights: Flights[str, str] = Flights()
    gate, finished = asyncio.Event(), asyncio.Event()

    async def work() -> str:
        await gate.wait()
        finished.set()
        return "stored"

    impatient = asyncio.create_task(flights.join("a", work))
    patient = asyncio.create_task(flights.join("a", work))
    await asyncio.sleep(0)
    impatient.cancel()
    gate.set()
    assert await patient == "stored"
    assert finished.is_set()
    assert impatient.cancelled()


async def test_a_failure_reaches_every_caller_and_the_next_one_starts_anew() -> None:
    flights: Flights[str, str] = Flights()

    async def broken() -> str:
        raise errors.StoreUnavailable("no answer")

    async def whole() -> str:
        return "fine"

    outcomes = await asyncio.gather(*(flights.join("a", broken) for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [errors.StoreUnavailable] * 3
    await asyncio.sleep(0)
    assert await flights.join("a", whole) == "fine"


async def test_draining_waits_for_the_work_and_cancels_what_is_late() -> None:
    flights: Flights[str, str] = Flights()
    await flights.drain(0.01)
    never = asyncio.Event()

    async def quick() -> str:
        return "done"

    async def endless() -> str:
        await never.wait()
        return "never"

    soon, late = asyncio.create_task(flights.join("a", quick)), asyncio.create_task(flights.join("b", endless))
    await asyncio.sleep(0)
    await flights.drain(0.05)
    assert await soon == "done"
    with pytest.raises(asyncio.CancelledError):
        await late
    await asyncio.sleep(0)
    assert len(flights) == 0


@pytest.mark.row("PRIV-1", "K1")
def test_a_secret_is_shown_by_nothing_but_reveal() -> None:
    secret = Secret("canary-5d1f")
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", repr([secret]), repr({"a": secret})]
    assert not [text for text in shown if "canary" in text]
    assert secret.reveal() == "canary-5d1f"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.row("C8")
def test_secrets_compare_by_content_and_only_with_secrets() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2
    assert not Secret("")
    assert Secret("x")


def test_the_clocks_tell_time_and_the_fake_one_moves_by_hand() -> None:
    real, fake = SystemClock(), FakeClock(now=100.0)
    assert abs(real.now() - time.time()) < 5
    assert real.monotonic() <= real.monotonic()
    before = fake.monotonic()
    fake.advance(30)
    assert fake.now() == 130.0
    assert fake.monotonic() == before + 30


def test_systemd_is_told_only_when_it_asked(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(2)
        notify_systemd("READY=1", {"NOTIFY_SOCKET": str(path)})
        assert listening.recv(64) == b"READY=1"
    notify_systemd("READY=1", {})


def test_a_systemd_that_does_not_listen_just_now_ends_nobody(tmp_path: Path) -> None:
    """It is being restarted itself: the socket is gone, or nobody reads it."""
    notify_systemd("WATCHDOG=1", {"NOTIFY_SOCKET": str(tmp_path / "gone")})


def test_the_watchdog_is_fed_twice_as_often_as_it_must_be_and_only_where_it_is_ours() -> None:
    assert watchdog_s({"WATCHDOG_USEC": "30000000"}) == 15.0
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 15.0
    assert watchdog_s({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}) is None
    for text in ("0", "", "x", "-1"):
        assert watchdog_s({"WATCHDOG_USEC": text}) is None
    assert watchdog_s({}) is None


def test_systemds_abstract_socket_is_spoken_to() -> None:
    name = f"bff-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name)
        listening.settimeout(2)
        notify_systemd("STOPPING=1", {"NOTIFY_SOCKET": "@" + name})
        assert listening.recv(64) == b"STOPPING=1"


def test_passed_sockets_count_only_when_they_are_meant_for_us() -> None:
    assert environ_fds({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}) == 2
    assert environ_fds({"LISTEN_PID": "1", "LISTEN_FDS": "2"}) == 0
    assert environ_fds({}) == 0


def leaves(kind: type[errors.BffError]) -> list[type[errors.BffError]]:
    children = kind.__subclasses__()
    return [kind] + [leaf for child in children for leaf in leaves(child)]


@pytest.mark.row("RESP-8")
def test_every_failure_has_a_code_a_status_and_a_harmless_sentence() -> None:
    kinds = [kind for kind in leaves(errors.BffError) if kind.__module__ == "bff.base.errors"]
    for kind in kinds:
        assert kind.code.replace("_", "").isalpha(), kind
        assert 400 <= kind.status_hint <= 599
        assert kind.public.endswith("."), kind
    assert errors.UpstreamTimeout("connect").phase == "connect"
    assert errors.TokenInvalid("aud").rule == "aud"
    assert errors.GrantRevoked("invalid_grant").error == "invalid_grant"
    assert errors.ProviderUnavailable(retry_after_s=3).retry_after_s == 3
    assert errors.ConfigError("one", "two").problems == ("one", "two")
    denied = errors.LoginFailed(errors.LoginReason.DENIED, "log only", oauth_error="access_denied")
    assert (denied.code, denied.oauth_error, denied.detail) == ("login_denied", "access_denied", "log only")


def test_a_failure_may_carry_its_own_sentence_and_code() -> None:
    error = errors.BffError("for the log", public="For people.", code="other")
    assert (error.public, error.code, str(error)) == ("For people.", "other", "for the log")
    assert str(errors.BffError()) == errors.BffError.public


def test_the_probe_for_nobody_takes_everything() -> None:
    no_probe(Event(EventKind.LOGOUT))
