"""A configuration that is right, and writing it down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

CANARY = "canary-5f1d9c3a7b"

GOOD: dict[str, Any] = {
    "server": {"public_origin": "https://app.example.com"},
    "provider": {"issuer": "https://id.example.com", "client_id": "spa", "client_secret": CANARY},
    "session": {"store": "memory:", "keys_file": "keys.json"},
    "routes": [{"path": "/api/orders/", "upstream": "https://orders.internal/v1/"}],
}


def to_toml(raw: Mapping[str, Any]) -> str:
    """TOML with inline tables below the first level: enough for tests, no dependency."""
    lines: list[str] = []
    for section, table in raw.items():
        if isinstance(table, list):
            lines += [line for item in table for line in (f"[[{section}]]", *(f"{key} = {_value(value)}" for key, value in item.items()))]
        elif isinstance(table, dict):
            lines += [f"[{section}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
        else:
            lines.insert(0, f"{section} = {_value(table)}")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_value(item)}' for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return msgspec.json.encode(value).decode()
