"""From a front proxy's question back to the request it asks about. The result is a head block, to be read by the one strict reader:
what the front proxy repaired or let pass is refused there, and nothing is judged that was not read by it."""

from __future__ import annotations

from typing import Final

from bff.forward_auth.dialects import Dialect
from bff.policy.facts import Facts
from bff.policy.verdict import Refusal
from bff.proxy.lines import HOP_BY_HOP
from bff.proxy.path import malformed

# Framing and hops of the question itself. The original's body never comes here; its upgrade is never granted (M2).
_OF_THE_QUESTION: Final = HOP_BY_HOP | {b"content-length", b"expect"}

BODY: Final = malformed("The front proxy sends the request body along; it must not.")
UNCLEAR: Final = malformed("The front proxy does not say, or says twice, what it was asked for.")


def build_original(question: Facts, dialect: Dialect, *, endpoint: str) -> bytes | Refusal:
    """The head block of the original request. ``endpoint`` is the path that the dialect's questions are sent to.

    X-Forwarded-For, -Proto and -Host stay: they are the trusted peer's words about the browser, and the reader weighs them as on any
    other request from it.
    """
    if question.body_length != 0 or question.chunked:
        return BODY
    method = _single(question, dialect.method_header) if dialect.method_header else question.method.encode()
    target = _single(question, dialect.target_header) if dialect.target_header else question.target.removeprefix(endpoint).encode()
    if method is None or target is None:
        return UNCLEAR
    own = dialect.own_headers
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    for name, value in question.headers:
        lower = name.lower()
        if lower not in _OF_THE_QUESTION and lower not in own:
            lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n"


def find_field(question: Facts, name: str) -> str:
    """The one value of a field that only the front proxy may send; "" if there is none, or more than one."""
    value = _single(question, name)
    return "" if value is None else value.decode("latin-1")


def _single(question: Facts, name: str) -> bytes | None:
    wanted = name.lower().encode()
    values = [value for field, value in question.headers if field.lower() == wanted]
    return values[0] if len(values) == 1 and values[0] else None
