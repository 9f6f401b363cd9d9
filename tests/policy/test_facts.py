from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

import bff
from bff.policy.codes import CODES
from bff.policy.facts import Facts, build_facts
from bff.policy.path import PathFinding, decode_fully, judge_path
from bff.policy.quick import build_quickly
from bff.policy.verdict import Admitted, Target, build_admitted, build_target
from tests.policy.asked import UPSTREAM, facts, route


def test_facts_built_the_quick_way_are_facts() -> None:
    values = {"method": "GET", "path": "/x", "query": "a", "host": "a.test", "headers": ((b"A", b"b"),), "origin": "o", "prefetch": True}
    quick, plain = build_facts(**values), Facts(**values)
    assert type(quick) is Facts
    assert quick == plain
    assert hash(quick) == hash(plain)
    assert repr(quick) == repr(plain)
    assert {each.name: each.default for each in fields(quick)} == {each.name: each.default for each in fields(Facts)}
    assert replace(quick, method="POST").method == "POST"
    with pytest.raises(FrozenInstanceError):
        quick.method = "PUT"  # type: ignore[misc]


def test_the_other_quick_values_are_what_they_stand_for() -> None:
    target, admitted = build_target(UPSTREAM, "/v1/x"), build_admitted(facts=facts(), route=route(), target=None)
    assert type(target) is Target
    assert target == Target(UPSTREAM, "/v1/x")
    assert type(admitted) is Admitted
    assert admitted == Admitted(facts=facts(), route=route(), target=None)
    with pytest.raises(TypeError):
        build_target(UPSTREAM)  # type: ignore[call-arg]


def test_a_quick_value_s_default_factory_makes_a_new_value_each_time() -> None:
    @dataclass(frozen=True, slots=True)
    class Box:
        things: list[int] = field(default_factory=list)

    build_box = build_quickly(Box)
    assert build_box() == Box()
    assert build_box().things is not build_box().things


@pytest.mark.parametrize(
    ("mode", "accept", "page"),
    [
        ("navigate", None, True), ("navigate", "application/json", True), ("cors", "text/html", False), (None, "text/html,*/*", True),
        (None, "*/*", False),
        (None, None, False),
    ],
)  # fmt: skip
def test_a_page_is_what_a_person_will_look_at(mode: str | None, accept: str | None, page: bool) -> None:
    assert facts(fetch_mode=mode, accept=accept).wants_page is page


def test_the_target_is_path_and_query_as_received() -> None:
    assert facts(path="/a", query=None).target == "/a"
    assert facts(path="/a", query="").target == "/a?"


@pytest.mark.row("ROUTE-5", "ROUTE-6")
@pytest.mark.parametrize(
    ("path", "finding"),
    [
        (b"/a/b/", PathFinding.PLAIN), (b"/a%2fb", PathFinding.ENCODED_SLASH), (b"/a%2f%2f", PathFinding.ENCODED_SLASH),
        (b"/a/%252e%252e", PathFinding.BAD_SEGMENT),
        (b"/a%2f..", PathFinding.BAD_SEGMENT), (b"//a", PathFinding.BAD_SEGMENT), (b"/a//b%2f", PathFinding.BAD_SEGMENT),
        (b"/%5c", PathFinding.BAD_CONTENT),
        (b"/%c0%80", PathFinding.BAD_CONTENT),
    ],
)  # fmt: skip
def test_a_path_is_judged_in_every_depth(path: bytes, finding: PathFinding) -> None:
    assert judge_path(path) is finding
    assert finding.usable is (finding in (PathFinding.PLAIN, PathFinding.ENCODED_SLASH))


def test_decoding_goes_on_until_nothing_changes() -> None:
    assert decode_fully(b"/%252561%c3%a9") == "/a\u00e9"


def test_every_code_that_a_refusal_can_carry_has_a_title() -> None:
    import ast
    from pathlib import Path

    found = {
        call.args[1].value
        for source in Path(bff.__file__).parent.rglob("*.py")
        for call in ast.walk(ast.parse(source.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Refusal" and len(call.args) > 1
        if isinstance(call.args[1], ast.Constant)
    }
    assert len(found) > 20
    assert found <= CODES.keys()
    assert all(title for title in CODES.values())
