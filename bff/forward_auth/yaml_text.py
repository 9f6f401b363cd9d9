"""Plain values as block YAML, for configurations that people read. Strings are always quoted: no Norway, no octal ports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def build_yaml(value: Any) -> str:
    """Mappings, sequences, strings, numbers and booleans, nothing else."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            name = key if key.replace("_", "").replace("-", "").isalnum() and not key[0].isdigit() else json.dumps(key)
            yield from _entry(f"{name}:", item)
    else:
        for item in value:
            nested = list(_lines(item)) if _is_block(item) else [_scalar(item)]
            yield f"- {nested[0]}"
            yield from (f"  {line}" for line in nested[1:])


def _entry(head: str, item: Any) -> Iterable[str]:
    if not _is_block(item):
        yield f"{head} {_scalar(item)}"
        return
    yield head
    yield from (f"  {line}" for line in _lines(item))


def _is_block(item: Any) -> bool:
    return isinstance(item, Mapping | Sequence) and not isinstance(item, str) and bool(item)


def _scalar(item: Any) -> str:
    return json.dumps(item)
