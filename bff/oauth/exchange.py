"""One exchange with a form endpoint (token, PAR, revocation), as a generator that yields requests and is sent answers.

The generator decides, the caller does the I/O: so every rule here is tested without a network, and a request that has to be
made again for the provider's sake (a DPoP nonce, RFC 9449 §8) is one more ``yield`` with a fresh proof. A request whose outcome
is unknown is never yielded again: it may have used up a code or rotated a refresh token (CB-6).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from bff.oauth.answers import Answer, check_reachable, read_form_answer
from bff.oauth.client_auth import ClientProof
from bff.oauth.jsontext import JsonObject

Prove = Callable[[], ClientProof]


@dataclass(frozen=True, slots=True)
class FormPost:
    """One POST to make. Holds secrets, so it prints only where it goes."""

    url: str
    form: Sequence[tuple[str, str]] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    timeout_s: float | None = None


Exchange = Generator[FormPost, Answer, JsonObject]


def build_post(url: str, form: Sequence[tuple[str, str]], proof: ClientProof, *, timeout_s: float | None = None) -> FormPost:
    present = {name for name, _ in form}  # a pushed request names its client_id already (RFC 9126 §2.1)
    added = [pair for pair in proof.form if pair[0] not in present]
    return FormPost(url=url, form=(*form, *added), headers=proof.headers, timeout_s=timeout_s)


def exchange(
    what: str,
    url: str,
    form: Sequence[tuple[str, str]],
    prove: Prove,
    *,
    good: Collection[int] = (200,),
    timeout_s: float | None = None,
) -> Exchange:
    """Yields the request, returns the success document; the failures are those of answers.read_form_answer.

    ``timeout_s`` is how long the answer may take, where the wire's own limit is too short."""
    answer = yield build_post(url, form, prove(), timeout_s=timeout_s)
    return read_form_answer(answer, what, good=good)


def revocation(url: str, form: Sequence[tuple[str, str]], prove: Prove) -> Exchange:
    """Like ``exchange``, but status 200 is success whatever the body, also for an unknown token (RFC 7009 §2.2)."""
    answer = yield build_post(url, form, prove())
    check_reachable(answer, "revocation")
    return {} if answer.status in (200, 204) else read_form_answer(answer, "revocation")
