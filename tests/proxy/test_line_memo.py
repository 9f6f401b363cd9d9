"""The memory of header lines is bounded by what a line weighs, not only by its bytes."""

from __future__ import annotations

import pytest

from bff.proxy.lines import MANY_PAIRS, LineMemo, LineReader


@pytest.mark.row("F55")
@pytest.mark.parametrize(("pairs", "kept"), [(MANY_PAIRS, True), (MANY_PAIRS + 2, False)])
def test_a_cookie_line_of_very_many_pairs_is_read_and_not_remembered(pairs: int, kept: bool) -> None:
    memo = LineMemo(LineReader())
    line = b"Cookie: " + b"; ".join(b"a%d=1" % number for number in range(pairs))
    first = memo.find(line)
    for _ in range(3):
        assert type(memo.find(line)) is type(first)
    assert (line in memo.young) is kept
