"""Durations, sizes, numbers, switches: written exactly as documented or not accepted, for every setting that has one."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bff.settings import Settings, values
from bff.settings.sources import _element, _fields, _unwrap
from bff.settings.types import DurationOrZero
from bff.settings.values import Unusable, read_duration, read_listen, read_origin, read_size, read_url

Problems = Callable[..., list[str]]
BAD_NUMBERS = ["300x", "-1", "1e3", "1.5", " 5", "5 ", "0x10", "1_000", "9" * 40, "٣", "", "NaN", "inf"]


def _leaves() -> list[tuple[tuple[Any, ...], Any]]:
    """Every setting with its annotation and its place in the file; those of a route in the first route."""
    found: list[tuple[tuple[Any, ...], Any]] = []
    for section, annotation in _fields(Settings).items():
        element = _element(annotation)
        prefix: tuple[Any, ...] = (section, 0) if element else (section,)
        found += [((*prefix, key), kind) for key, kind in _fields(element or annotation).items()]
    return found


def _info(place: tuple[Any, ...]) -> Any:
    model: Any = Settings
    for part in place[:-1]:
        model = (
            _element(model)
            if isinstance(part, int)
            else _unwrap(_fields(model)[part])
            if not _element(_fields(model)[part])
            else _fields(model)[part]
        )
    return model.model_fields[place[-1]]


def _kind(place: tuple[Any, ...], annotation: Any) -> str:
    text = str(annotation) + str(_info(place).metadata)
    if "examples" in text and "MiB" in text:
        return "size"
    if "examples" in text and "30s" in text:
        return "duration"
    return {bool: "bool", int: "int"}.get(_unwrap(annotation), "")


NUMERIC = [(place, _kind(place, annotation)) for place, annotation in _leaves() if _kind(place, annotation)]
MAY_BE_EMPTY = {"max_age"}


def test_the_table_covers_the_settings_that_have_numbers() -> None:
    """C4: the generator really finds them; a renamed type must not empty the test below."""
    kinds = [kind for _, kind in NUMERIC]
    assert kinds.count("duration") >= 14
    assert kinds.count("size") >= 3
    assert kinds.count("int") >= 5
    assert kinds.count("bool") >= 8


@pytest.mark.row("C4", "C3")
@pytest.mark.parametrize(("place", "kind"), NUMERIC, ids=[".".join(map(str, place)) for place, _ in NUMERIC])
def test_a_lenient_spelling_is_refused_in_file_and_environment(problems: Problems, place: tuple[Any, ...], kind: str) -> None:
    """C4: "300x" as 300 and "" as for ever ended in timeouts that never came (mod_auth_openidc 2026-07)."""
    name = "BFF_" + "__".join(str(part) for part in place).upper()
    key = f"{place[0]}[0].{place[-1]}" if len(place) == 3 else ".".join(place)
    for bad in BAD_NUMBERS:
        if bad == "" and place[-1] in MAY_BE_EMPTY:
            continue
        assert [line for line in problems((*place, bad)) if f": {key}: " in line], (bad, "file")
        assert [line for line in problems(env={name: bad}) if f": {key}: " in line], (bad, "environment")
    for wrong in (True, 1.5, ["1"], {"a": "b"}) if kind != "bool" else (1, 0, "true", ["true"]):
        assert [line for line in problems((*place, wrong)) if f": {key}: " in line], wrong


@pytest.mark.row("C4")
@pytest.mark.parametrize(
    ("place", "kind"), [entry for entry in NUMERIC if entry[1] in ("duration", "size", "int")], ids=lambda value: str(value)
)
def test_zero_is_not_for_ever(problems: Problems, place: tuple[Any, ...], kind: str) -> None:
    """C4: zero is refused except where it means zero."""
    means_zero = place[-1] in {"drain_delay", "leeway", "max_age"}
    assert bool(problems((*place, 0))) is not means_zero


@pytest.mark.row("C4")
@pytest.mark.parametrize(
    ("text", "seconds"), [("30m", 1800), ("12h", 43200), ("1h30m", 5400), ("250ms", 0.25), ("7d", 604800), ("0s", 0), (45, 45), ("45", 45)]
)
def test_durations_read_as_documented(text: Any, seconds: float) -> None:
    """C4: the positive twin."""
    assert read_duration(text) == pytest.approx(seconds)


@pytest.mark.row("C4")
@pytest.mark.parametrize(("text", "size"), [("1MiB", 2**20), ("64kB", 64000), ("512B", 512), ("2GiB", 2**31), (4096, 4096), ("4096", 4096)])
def test_sizes_read_as_documented(text: Any, size: int) -> None:
    """C4: the positive twin."""
    assert read_size(text) == size


@pytest.mark.row("C4")
@given(st.text(alphabet=string.printable, max_size=12))
def test_a_duration_is_bounded_or_refused(text: str) -> None:
    """C4: whatever is written, the outcome is a sane number or a refusal."""
    try:
        seconds = read_duration(text)
    except Unusable:
        return
    assert 0 <= seconds <= values.LONGEST_S


@pytest.mark.row("ROUTE-2", "META-3")
@given(st.text(max_size=40))
def test_a_url_says_one_thing_or_is_refused(text: str) -> None:
    """ROUTE-2: what is accepted, is read again the same."""
    for candidate in (text, f"https://{text}"):
        try:
            url = read_url(candidate)
        except Unusable:
            continue
        assert read_url(str(url)) == url
        assert "@" not in url.origin


@pytest.mark.row("CSRF-5")
@pytest.mark.parametrize(
    "text", ["null", "https://a.example.com.", "https://a.example.com#", "https://[::1", "https://1.2.3.4.5", "https://ä.example"]
)
def test_an_origin_that_no_browser_sends_is_refused(text: str) -> None:
    """CSRF-5: comparison is exact, so the configured spelling must be the browser's."""
    with pytest.raises(Unusable):
        read_origin(text)
    assert str(read_origin("https://xn--4ca.example:8443")) == "https://xn--4ca.example:8443"


def test_listen_values_round_trip() -> None:
    """OPS-1: every kind of address prints as it was written."""
    for text in ("127.0.0.1:8080", "[::1]:8080", "unix:/run/x.sock", "fd://3", "localhost:0"):
        assert str(read_listen(text)) == text


def test_duration_types_are_annotated() -> None:
    """A guard for the generator above."""
    assert get_origin(DurationOrZero) is not None or get_args(DurationOrZero)
