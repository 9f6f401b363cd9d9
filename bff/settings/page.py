"""What a page holds that a policy blocks, and what a policy lets through. Pure: texts in, words out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urljoin, urlsplit

_SCRIPT_TYPES: Final = frozenset({"", "module", "importmap", "speculationrules", "text/javascript", "application/javascript"})
"""Any other ``type`` makes a data block of it, which no policy blocks."""
_LOADED: Final = frozenset({"stylesheet", "preload", "modulepreload", "icon", "apple-touch-icon", "mask-icon", "manifest"})
"""Links that fetch what a policy decides on; ``preconnect`` and ``canonical`` are none."""
_UNREAD: Final = frozenset({"noscript", "template"})
_MOST_HOSTS: Final = 3


def find_blocked(page: str, origin: str) -> list[str]:
    """What of ``page`` doesn't work where only files of ``origin`` do, as phrases: ``3 inline scripts``, ``1 file of cdn.example``."""
    parser = _Parser(origin)
    parser.feed(page)
    parser.close()
    inline = [_counted(parser.inline[kind], f"inline {kind}") for kind in ("script", "style", "event handler") if parser.inline[kind]]
    hosts = [f"{_counted(count, 'file')} of {_shown(host)}" for host, count in parser.others.most_common(_MOST_HOSTS)]
    left = len(parser.others) - len(hosts)
    return [*inline, *hosts, *([f"files of {_counted(left, 'further host')}"] if left else [])]


def _counted(count: int, name: str) -> str:
    return f"{count} {name}{'' if count == 1 else 's'}"


def _shown(host: str) -> str:
    return ascii(host)[1:-1][:80]


class _Parser(HTMLParser):
    """Counts what stands in the page itself and what it fetches from other hosts."""

    def __init__(self, origin: str) -> None:
        super().__init__()
        self.inline: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self._origin = origin
        self._unread = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNREAD:
            self._unread += 1
        if self._unread:
            return
        given = {name: value or "" for name, value in reversed(attrs)}  # of two with one name, browsers take the first
        self.inline["event handler"] += sum(name.startswith("on") for name in given)
        if tag == "style":
            self.inline["style"] += 1
        elif tag == "script" and given.get("type", "").strip().lower() in _SCRIPT_TYPES:
            if "src" in given:
                self._fetches(given["src"])
            else:
                self.inline["script"] += 1
        elif tag == "link" and "href" in given and _LOADED & set(given.get("rel", "").lower().split()):
            self._fetches(given["href"])

    def handle_endtag(self, tag: str) -> None:
        if tag in _UNREAD and self._unread:
            self._unread -= 1

    def _fetches(self, written: str) -> None:
        try:
            url = urlsplit(urljoin(f"{self._origin}/", written.strip()))
        except ValueError:
            return
        if url.scheme in ("http", "https") and url.netloc.lower() != urlsplit(self._origin).netloc:
            self.others[url.netloc.lower()] += 1


def find_risks(csp: str) -> list[str]:
    """What a Content-Security-Policy leaves open, as predicates; of several policies (``,``) only what all of them do."""
    policies = [list(_policy_risks(policy)) for policy in csp.split(",") if policy.strip()]
    return [risk for risk in policies[0] if all(risk in others for others in policies)] if policies else []


def _policy_risks(policy: str) -> Iterator[str]:
    directives: dict[str, list[str]] = {}
    for directive in policy.lower().split(";"):
        name, *sources = directive.split() or [""]
        directives.setdefault(name, sources)  # of two with one name, browsers take the first
    scripts = directives.get("script-src", directives.get("default-src"))
    if scripts is None:
        yield "lacks default-src and script-src: scripts of any origin run in the app"
    lists = [sources for sources in (scripts, directives.get("script-src-elem"), directives.get("script-src-attr")) if sources]
    if any("'unsafe-inline'" in sources and not any(source.startswith("'sha") for source in sources) for sources in lists):
        yield "lets inline scripts run ('unsafe-inline'): who gets text into a page acts as its user"
    if any("'unsafe-eval'" in sources for sources in lists):
        yield "lets text run as script ('unsafe-eval')"
    if "frame-ancestors" not in directives:
        yield "lacks frame-ancestors: other sites can show the app in a frame of theirs"
