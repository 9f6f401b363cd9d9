"""One page per error code from docs/errors.toml: writes docs/errors/, or checks it with ``--check``."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE, FOLDER = ROOT / "docs" / "errors.toml", ROOT / "docs" / "errors"

PAGE = """\
# `{code}`

{status}

**What it means.** {means}

**In the app.** {app}

**For operators.** {operator}
"""

INDEX = """\
# Error codes

Every refusal and failure has a stable `code`. A fetch gets it as RFC 9457 problem JSON (`code`, `title`, `status`, `detail`,
`request_id`), a navigation as a small page. The `request_id` is in the log line of the same request.
Generated from `docs/errors.toml`.

| code | status | what it means |
| --- | --- | --- |
"""


def main(words: list[str]) -> int:
    pages = build_pages()
    stale = [name for name, text in pages.items() if not (FOLDER / name).exists() or (FOLDER / name).read_text() != text]
    extra = [path.name for path in FOLDER.glob("*.md") if path.name not in pages]
    if "--check" in words:
        for name in [*stale, *extra]:
            print(f"docs/errors/{name} is stale: python3 docs/tools/errors.py", file=sys.stderr)
        return 1 if stale or extra else 0
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages.items():
        (FOLDER / name).write_text(text)
    for name in extra:
        (FOLDER / name).unlink()
    print(f"{len(pages) - 1} pages, {len(stale)} written, {len(extra)} removed")
    return 0


def build_pages() -> dict[str, str]:
    """File name to text, the index (README.md) included."""
    with SOURCE.open("rb") as handle:
        table = tomllib.load(handle)
    pages = {f"{code}.md": PAGE.format(code=code, **_words(entry)) for code, entry in table.items()}
    rows = [f"| [`{code}`]({code}.md) | {entry['status']} | {entry['means'].split('. ')[0].rstrip('.')} |" for code, entry in table.items()]
    return {"README.md": INDEX + "\n".join(rows) + "\n", **pages}


def _words(entry: dict[str, str]) -> dict[str, str]:
    status = f"Status {entry['status']}." if entry["status"][0].isdigit() else f"{entry['status']}."
    return {**entry, "status": status, "app": entry.get("app", "Nothing to do."), "operator": entry.get("operator", "Nothing to do.")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
