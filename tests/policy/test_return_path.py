"""Return paths against the known escapes, and against the parser that decides in the end: the browser's."""

from __future__ import annotations

import json
import shutil
import subprocess
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bff.policy.return_path import MAX_RETURN_BYTES, safe_return

KEPT = [
    "/", "/orders", "/orders/17", "/orders/17?tab=a&b=%2F", "/a/b/", "/x#section", "/x#/route/1?y", "/?a=b", "/a;v=1", "/%C3%A9t%C3%A9",
    "/a%20b", "/~u",
    "/x?next=//evil.test", "/x?u=https://evil.test/", "/.well-known/x", "/a:b", "/a@b", "/bffx", "/x?q=[1]|{2}^3", "/100%25", "/a%252fb",
    "/a%2Fb",
]  # fmt: skip

# Shapes of the published bypass lists (Duende, mod_auth_openidc, oauth2-proxy, nextjs-auth0) and what one can make of them.
HOSTS = [
    "evil.test",
    "evil.test/",
    "evil.test/x",
    "evil.test:443",
    "a.test@evil.test",
    "a.test.evil.test",
    "[::1]",
    "1.2.3.4",
    "2130706433",
    "evil%E3%80%82test",
]
LEADS = [
    "//", "///", "////", "/\\", "\\/", "\\\\", "/\\/", "\\/\\/", "/\t/", "/\n/", "/\r/", "\t//", " //", "//\t", "/ /", "/%09/", "/%5c",
    "/%5C/", "/%2f", "%2f%2f",
    "/./", "/.//", "/..//", "/../", "/a/..//", "/;//", "/%2e%2e//", "/.%0d/", "/%0d%0a/", "/%00/", "http://", "https://", "HTTPS://",
    "https:", "https:/", "https:///",
    "https:\\\\", "ht\ntps://", "javascript://", "javascript:alert(1)//", "data:text/html,", "vbscript:", "blob:", "file:///", "ftp://",
    "ws://", "//\\", "/\u2215/",
    "\uff0f\uff0f", "/\uff0f", "/\u3000/", "\u00a0//", "\ufeff//", "/\u200b/", "\x00//", "\x01//", "/\x00/", "/\x7f/", "//a.test@",
    "//a.test\\@", "https://a.test@",
    "https://a.test\\@", "https://a.test:x@", "https://a.test%2f@", "https://a.test#@", "https://a.test?@", "@", "?//", "#//", ".", "..",
    "./", "../", "x", "",
    "/bff/login?x=", "/bff/logout/", "/bff/", "/BFF/login/", "/%62ff/login/", "/bff;x/", "/bff%2flogin/", "/%2562ff/",
]  # fmt: skip
ESCAPES = sorted({lead + host for lead in LEADS for host in HOSTS} | {unquote(lead) + host for lead in LEADS for host in HOSTS} | {
    "/bff", "/bff/", "/bff/login", "/bff/callback?code=x", "/bff/logout", "/" + "a" * MAX_RETURN_BYTES, "/" + "a" * 8000 + "//evil.test",
    "/x y", "/x\r\nSet-Cookie: a",
    "/x\u00e9", "/%zz", "/%", "/x%0d%0aa", "/<script>", '/"', "/a\\b", "/x?a\\b", "/x?<", "/x#\\", "/a/./b", "/a//b", "/%c0%af", "/%ff",
})  # fmt: skip


@pytest.mark.row("REDIR-1", "REDIR-3", "R1")
@pytest.mark.parametrize("value", KEPT)
def test_a_path_of_ours_comes_back_as_it_went(value: str) -> None:
    assert safe_return(value) == value


@pytest.mark.row("REDIR-2", "R1", "R2", "R3", "R4", "R6", "REDIR-5")
def test_every_known_escape_is_refused() -> None:
    assert [value for value in ESCAPES if safe_return(value) is not None] == []
    assert len(ESCAPES) > 700


@pytest.mark.row("REDIR-5")
@pytest.mark.parametrize(
    "value", ["/bff", "/bff/login", "/bff/x?y", "/BFF/login", "/%62ff/login", "/bff%2flogin", "/bff;a", "/%2562ff/x", "/bff#x"]
)
def test_the_agent_s_own_paths_are_refused(value: str) -> None:
    assert safe_return(value) is None
    assert safe_return(value, prefix="/auth") == value
    assert safe_return("/auth/login", prefix="/auth") is None


@pytest.mark.row("R4")
def test_a_long_value_is_refused_and_never_cut() -> None:
    assert safe_return("/" + "a" * (MAX_RETURN_BYTES - 1)) is not None
    assert safe_return("/" + "a" * MAX_RETURN_BYTES) is None
    assert safe_return(None) is None


SOUP = st.lists(
    st.sampled_from(["/", "\\", ".", "..", "%2f", "%5c", "%2e", "@", ":", "//", "evil.test", "https:", "a", "?", "#", ";", "\t", "\n",
    " ", "\u3002", "%09"]) | st.characters(),
    max_size=10,
).map("".join)  # fmt: skip


@pytest.mark.row("REDIR-2", "R1", "M8")
@settings(max_examples=500, deadline=None)
@given(SOUP | SOUP.map(lambda text: "/" + text))
def test_what_is_kept_is_one_path_on_our_origin(value: str) -> None:
    kept = safe_return(value)
    if kept is None:
        return
    assert kept == value
    assert kept.startswith("/")
    assert not kept.startswith("//")
    assert kept.isascii()
    assert kept.isprintable()
    assert "\\" not in kept
    assert " " not in kept
    assert "//" not in kept.split("?")[0].split("#")[0]


RESOLVE = """
const out = JSON.parse(require('fs').readFileSync(0, 'utf8')).map(v => { try { const u = new URL(v, 'https://a.test/bff/callback');
return [u.origin, u.pathname + u.search + u.hash] } catch (e) { return ['error', ''] } });
process.stdout.write(JSON.stringify(out));
"""


@pytest.mark.node
@pytest.mark.row("REDIR-2", "REDIR-3", "R1")
def test_the_browsers_own_parser_finds_what_we_keep_on_our_origin_and_elsewhere_what_we_had_to_refuse() -> None:
    node = shutil.which("node")
    assert node is not None, "Node.js is the oracle of this test: it must be on PATH"
    asked = KEPT + ESCAPES
    done = subprocess.run([node, "-e", RESOLVE], input=json.dumps(asked), capture_output=True, text=True, check=True, timeout=30)
    left = 0
    for value, (origin, resolved) in zip(asked, json.loads(done.stdout), strict=True):
        if safe_return(value) is not None:
            assert origin == "https://a.test", value
            assert resolved == value
        left += origin != "https://a.test"
    assert left > 300, "the corpus has lost its teeth"
