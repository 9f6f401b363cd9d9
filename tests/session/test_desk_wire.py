"""What worker and agent say to each other: every message there and back, every failure as itself, and nothing over the bound."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.base import errors
from bff.base.errors import (
    BffError,
    ConfigError,
    GrantRefused,
    GrantRevoked,
    LoginFailed,
    LoginReason,
    ProviderError,
    ProviderMisbehaved,
    ProviderUnavailable,
    SealBroken,
    SessionGone,
    StoreUnavailable,
    TokenInvalid,
    UpstreamTimeout,
)
from bff.session.desk_wire import MAX_FRAME, Answer, Failure, Hello, Holder, Told, Wish, error_of, failure_of, frame, read_frame
from bff.session.model import Credential

FAILURES: list[BffError] = [
    BffError("why"),
    ProviderError("why"),
    ProviderUnavailable("why"),
    ProviderUnavailable("why", retry_after_s=2.5),
    ProviderMisbehaved("why"),
    GrantRefused("invalid_target", "why"),
    GrantRefused("interaction_required"),
    GrantRevoked("invalid_grant", "why"),
    TokenInvalid("iss", "why"),
    SessionGone("why"),
    StoreUnavailable("why"),
]


async def read(data: bytes) -> bytes:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return await read_frame(reader)


async def across(message: msgspec.Struct) -> object:
    return msgspec.msgpack.decode(await read(frame(message)), type=type(message))


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_a_failure_arrives_as_what_it_was(failure: BffError) -> None:
    told = await across(failure_of(failure))
    assert isinstance(told, Failure)
    error = error_of(told)
    assert type(error) is type(failure)
    for name in ("code", "detail", "public", "status_hint", "error", "rule", "retry_after_s"):
        assert getattr(error, name, None) == getattr(failure, name, None)


def test_a_code_of_its_own_arrives_too() -> None:
    assert error_of(failure_of(BffError("x", code="special"))).code == "special"


@pytest.mark.parametrize(
    ("failure", "arrives"),
    [
        (SealBroken("why"), BffError),
        (ConfigError("why"), BffError),
        (LoginFailed(LoginReason.DENIED), BffError),
        (UpstreamTimeout("head"), BffError),
        (type("Newer", (ProviderUnavailable,), {})("why", retry_after_s=3.0), ProviderUnavailable),
    ],
)
def test_a_failure_without_a_message_of_its_own_arrives_as_its_nearest_ancestor(failure: BffError, arrives: type[BffError]) -> None:
    error = error_of(failure_of(failure))
    assert type(error) is arrives and error.code == failure.code


def test_a_failure_of_a_kind_that_is_not_known_is_still_a_failure_of_ours() -> None:
    assert type(error_of(Failure("Unheard", "unheard_of", "why"))) is BffError


def test_every_failure_that_a_desk_may_raise_has_a_message() -> None:
    """A new error class under ProviderError must not lose what decisions look at on its way."""
    ours = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, ProviderError)]
    assert {one.__name__ for one in ours} == {type(failure).__name__ for failure in FAILURES if isinstance(failure, ProviderError)}


@given(st.binary(max_size=200), st.floats(allow_nan=False), st.text(max_size=20), st.frozensets(st.text(max_size=9), max_size=5))
def test_a_credential_arrives_as_it_was(authorization: bytes, until: float, audience: str, scopes: frozenset[str]) -> None:
    credential = Credential(authorization, until, audience, scopes)
    assert asyncio.run(across(Told.of(credential))).credential() == credential  # type: ignore[attr-defined]


async def test_wishes_and_answers_arrive_as_they_were() -> None:
    stale = Told(b"Bearer x", 1.5, "a", ["b"])
    for message in (
        Hello(b"s" * 32),
        Wish(7, Holder(b"k", b"h"), "user", "aud", ["one", "two"], stale),
        Wish(8, None, "client", "", []),
        Answer(7, stale),
        Answer(8, failure=Failure("SessionGone", "session_gone")),
    ):
        assert await across(message) == message


@pytest.mark.row("PRIV-1")
def test_neither_a_secret_nor_half_a_key_shows_where_messages_are_printed() -> None:
    """A traceback or a debugger's line shows neither the instance's secret, nor the ticket's half, nor a token."""
    shown = repr([Hello(b"SECRET"), Holder(b"key", b"SECRET"), Told(b"Bearer SECRET", 1.0, "", [])])
    assert "SECRET" not in shown and "Hello" in shown


# -- frames -----------------------------------------------------------------------------------------------------------


async def test_a_frame_of_the_greatest_size_is_read_and_one_byte_more_is_not() -> None:
    body = b"x" * MAX_FRAME
    assert await read(MAX_FRAME.to_bytes(4, "big") + body) == body
    with pytest.raises(ValueError, match="bound"):
        await read((MAX_FRAME + 1).to_bytes(4, "big") + body + b"x")


async def test_a_frame_that_claims_too_much_is_refused_before_anything_of_it_is_held() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="bound"):
        await read_frame(reader)


@pytest.mark.parametrize("cut", range(0, 8, 2))
async def test_an_end_within_a_frame_is_an_end(cut: int) -> None:
    whole = frame(Answer(1))
    assert cut < len(whole)
    with pytest.raises(EOFError):
        await read(whole[:cut])


async def test_frames_in_pieces_and_back_to_back_are_read_one_by_one() -> None:
    reader = asyncio.StreamReader()
    for byte in frame(Answer(1)) + frame(Answer(2)):
        reader.feed_data(bytes([byte]))
    for number in (1, 2):
        assert msgspec.msgpack.decode(await read_frame(reader), type=Answer).number == number


@given(st.binary(max_size=64))
def test_junk_in_a_frame_is_a_decoding_error_and_nothing_else(junk: bytes) -> None:
    for kind in (Hello, Wish, Answer):
        try:
            msgspec.msgpack.decode(junk, type=kind)
        except (msgspec.DecodeError, ValueError):
            continue
