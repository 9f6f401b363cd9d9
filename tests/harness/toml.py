"""Writing the configuration file: just enough TOML for dicts of scalars, lists, tables and arrays of tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def _scalar(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(name)} = {_scalar(one)}" for name, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_scalar(one) for one in value) + "]"
    return json.dumps(value)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else json.dumps(name)


def to_toml(config: Mapping[str, Any]) -> str:
    """``config`` as TOML: sections, then arrays of tables with their sub-tables inline."""
    lines: list[str] = []
    for section, content in config.items():
        tables = content if isinstance(content, list) else [content]
        for table in tables:
            lines.append(f"[[{section}]]" if isinstance(content, list) else f"[{section}]")
            lines += [f"{_key(name)} = {_scalar(value)}" for name, value in table.items()]
            lines.append("")
    return "\n".join(lines)
