"""The field types of the settings models: our readers dressed for pydantic, with their JSON Schema."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from bff.base.secret import Secret
from bff.settings import values
from bff.settings.values import Listen, Unusable, Url


def _reader(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``read`` with its refusal in the shape that load.py turns into "what; fix"."""

    def validate(value: Any) -> Any:
        try:
            return read(value)
        except Unusable as error:
            raise PydanticCustomError("bff", "{what}", {"what": error.what, "fix": error.fix}) from None

    return validate


def _positive(value: Any) -> float:
    seconds = values.read_duration(value)
    if seconds <= 0:
        raise Unusable("is zero", "use a duration above zero; there is no way to say for ever")
    return seconds


def _read_secret(value: Any) -> Secret:
    if not isinstance(value, str):
        raise Unusable("is not text", "write it in quotes")
    if any(char < " " for char in value):
        raise Unusable("holds a line break or control character", "put one line there")
    if value and not value.strip():
        raise Unusable("is blank", "put the secret there")
    return Secret(value)


def _read_network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError:
        raise Unusable(f"{values.shown(value)} is not a network", 'write a CIDR such as "10.0.0.0/8" or "192.0.2.7/32"') from None


def _check_issuer(value: Any) -> Any:
    url = values.read_url(value)
    if url.host == "login.microsoftonline.com" and url.path.startswith(("/common", "/organizations", "/consumers")):
        raise Unusable("is Entra ID's address for many tenants, which no token names as its issuer", "put your tenant id in its place")
    if url.path.endswith("/.well-known/openid-configuration"):
        raise Unusable("is the address of the provider's metadata", "write what stands before /.well-known")
    return value


def _one_line(value: Any) -> Any:
    if isinstance(value, str) and any(char < " " or char == "\x7f" for char in value):
        raise Unusable("holds a control character", "remove it")
    return value


def _one_word(value: Any) -> Any:
    # An empty acr is what a session without acr has: such a demand would be met by everybody.
    if isinstance(value, str) and not re.fullmatch(r"[!-~]+", value, re.ASCII):
        raise Unusable(f"{values.shown(value)} is not one word", "write one value per entry, without spaces")
    return value


_DURATION_SCHEMA = WithJsonSchema({"type": ["string", "integer"], "description": 'such as "30m"', "examples": ["30s", "15m"]})


def _read_unless_empty(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None or value == "" else read(value)


_AS_TEXT = PlainSerializer(str, return_type=str)
_URI = WithJsonSchema({"type": "string", "format": "uri"})

Text = Annotated[str, BeforeValidator(_reader(_one_line)), Field(max_length=4096)]
Word = Annotated[str, BeforeValidator(_reader(_one_word)), Field(max_length=256)]
Duration = Annotated[float, PlainValidator(_reader(_positive)), _DURATION_SCHEMA]
DurationOrZero = Annotated[float, PlainValidator(_reader(values.read_duration)), _DURATION_SCHEMA]
MaybeDuration = Annotated[float | None, PlainValidator(_reader(_read_unless_empty(values.read_duration))), _DURATION_SCHEMA]
Size = Annotated[int, PlainValidator(_reader(values.read_size)), WithJsonSchema({"type": ["string", "integer"], "examples": ["1MiB"]})]
ListenText = Annotated[Listen, PlainValidator(_reader(values.read_listen)), _AS_TEXT, WithJsonSchema({"type": "string"})]
MaybeListen = Annotated[
    Listen | None,
    PlainValidator(_reader(_read_unless_empty(values.read_listen))),
    PlainSerializer(lambda value: "" if value is None else str(value), return_type=str),
    WithJsonSchema({"type": "string"}),
]
OriginText = Annotated[str, BeforeValidator(_reader(lambda value: str(values.read_origin(value)))), _URI]
IssuerText = Annotated[str, BeforeValidator(_reader(_check_issuer)), _URI]
"""Kept byte for byte: issuers are compared as strings (ISS-1)."""
UrlText = Annotated[Url, PlainValidator(_reader(values.read_url)), _AS_TEXT, _URI]
MaybeUrl = Annotated[Url | None, PlainValidator(_reader(_read_unless_empty(values.read_url))), _AS_TEXT, _URI]
SecretText = Annotated[
    Secret, PlainValidator(_reader(_read_secret)), _AS_TEXT, WithJsonSchema({"type": "string", "format": "password", "writeOnly": True})
]
Network = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network,
    PlainValidator(_reader(_read_network)),
    _AS_TEXT,
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8"]}),
]
FileName = Annotated[str, BeforeValidator(_reader(_one_line)), WithJsonSchema({"type": "string", "format": "path"})]
"""A path; relative ones are resolved against the folder of the configuration file (load.py)."""


def written(default: object) -> Any:
    """A default in the spelling a person would use in the file; validated like any other value."""
    return Field(default=default, validate_default=True)


class Section(BaseModel):
    """Frozen, strict, and closed: an unknown key is an error (OPS-1, C3)."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True, use_attribute_docstrings=True, arbitrary_types_allowed=True
    )
