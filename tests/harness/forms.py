"""Forms of a page, as a person would fill them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass(slots=True)
class Form:
    action: str = ""
    method: str = "get"
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)
    types: dict[str, str] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(found.get("action", ""), found.get("method", "get").lower()))
            self._open = True
        elif self._open and found.get("name") and tag in ("input", "button", "textarea"):
            self._take(tag, found)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = False

    def _take(self, tag: str, found: dict[str, str]) -> None:
        form, name = self.forms[-1], found["name"]
        if tag == "button" or found.get("type") == "submit":
            form.buttons.append((name, found.get("value", "")))
        elif found.get("type") not in ("checkbox", "radio") or "checked" in found:
            form.fields[name] = found.get("value", "")
            form.types[name] = found.get("type", "text")


def read_forms(page: str) -> list[Form]:
    reader = _Reader()
    reader.feed(page)
    return reader.forms
