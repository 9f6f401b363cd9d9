"""Requests that are almost like honest ones: every one of them must go as if nothing like it had been seen before."""

from __future__ import annotations

from collections.abc import Iterator

from tests.proxy.gate import NAME

OWN = NAME.encode()
TRACE = b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"
USUAL = (
    b"Host: a.test",
    b"User-Agent: Mozilla/5.0",
    b"Accept: application/json",
    b"X-CSRF: 1",
    b"Sec-Fetch-Site: same-origin",
    b"Sec-Fetch-Mode: cors",
    b"Sec-Fetch-Dest: empty",
    b"Origin: https://a.test",
    b"Cookie: theme=dark; " + OWN + b"=alice; _ga=1",
    b"traceparent: " + TRACE,
    b"X-Free: 1",
)
BEHIND = (b"X-Forwarded-For: 198.51.100.1", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: a.test", b"X-Request-Id: one")


def write(start: bytes, lines: tuple[bytes, ...] | list[bytes], body: bytes = b"") -> bytes:
    return start + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


HONEST = {
    "get": (b"GET /api/x?a=1 HTTP/1.1", USUAL, b""),
    "cookies": (b"GET /cookies/x HTTP/1.1", USUAL, b""),
    "public": (b"GET /public/x HTTP/1.1", USUAL[:3], b""),
    "region": (b"GET /region/x HTTP/1.1", USUAL, b""),
    "post": (b"POST /api/x HTTP/1.1", (*USUAL, b"Content-Type: application/json", b"Content-Length: 20"), b"GET /api/z HTTP/1.1\r"),
    "put": (b"PUT /flat/x HTTP/1.1", (*USUAL[:4], USUAL[8], b"Content-Length: 0"), b""),
    "chunked": (b"POST /api/x HTTP/1.1", (*USUAL, b"Transfer-Encoding: chunked"), b"3\r\nabc\r\n0\r\n\r\n"),
    "behind": (b"GET /api/x HTTP/1.1", (*USUAL, *BEHIND), b""),
}

STARTS = b"""GET /api/x HTTP/1.0|GET /api/x HTTP/1.2|GET /api/x HTTP/2.0|get /api/x HTTP/1.1|GET  /api/x HTTP/1.1|GET /api/x  HTTP/1.1
GET\t/api/x HTTP/1.1|GET http://a.test/api/x HTTP/1.1|GET https://evil.test/api/x HTTP/1.1|GET //api/x HTTP/1.1
GET /api//x HTTP/1.1|GET /api/../public/x HTTP/1.1|GET /api/%2e%2e/x HTTP/1.1|GET /api/.%2e/x HTTP/1.1|GET /api/x/. HTTP/1.1
GET /api/..;/x HTTP/1.1|GET /api;a/x HTTP/1.1|GET /api/x;a=1 HTTP/1.1|GET /API/x HTTP/1.1|GET /api/%2F HTTP/1.1
GET /files/a%2Fb HTTP/1.1|GET /api/a%252Fb HTTP/1.1|GET /api/%78 HTTP/1.1|GET /%61pi/x HTTP/1.1|GET /api/%00 HTTP/1.1
GET /api/\\ HTTP/1.1|GET /api/x#y HTTP/1.1|GET /api HTTP/1.1|GET /api/ HTTP/1.1|GET /api? HTTP/1.1|GET /api/?x HTTP/1.1
GET /apix HTTP/1.1|GET /flat HTTP/1.1|GET /flat/ HTTP/1.1|GET /flat?x=1 HTTP/1.1|GET /flatx HTTP/1.1|GET /flat//x HTTP/1.1
GET /flat;x HTTP/1.1|GET /sales/x HTTP/1.1|GET /scoped/x HTTP/1.1|GET /fresh/x HTTP/1.1|GET /either/x HTTP/1.1
GET /greeting/x HTTP/1.1|GET /public/x HTTP/1.1|GET /get/x HTTP/1.1|POST /get/x HTTP/1.1|HEAD /api/x HTTP/1.1
OPTIONS /api/x HTTP/1.1|DELETE /api/x HTTP/1.1|POST /api/x HTTP/1.1|TRACE /api/x HTTP/1.1|CONNECT a.test:443 HTTP/1.1
OPTIONS * HTTP/1.1|GET /none HTTP/1.1|GET * HTTP/1.1|GET /region/x HTTP/1.1|GET /few/x HTTP/1.1|GET /cookies/x HTTP/1.1
GET /api/x""".replace(b"\n", b"|").split(b"|")
LINES = b"""Content-Length: 0|Content-Length: 5|Content-Length: 20|Content-Length: 21|Content-Length: 41|content-length: 20
Content-Length: +5|Content-Length: 5, 5|Content-Length: 0x5|Content-Length: -1|Content-Length: 05|Content-Length:\x20
Content-Length : 5|Content-Length:5|Content-Length: 5 |Content-Length:\t5|Content-Length: 99999999999999999999
Content_Length: 5|X-Free: 2<CR><LF> Content-Length: 5|Transfer-Encoding: chunked|transfer-encoding: Chunked
Transfer-Encoding: identity|Transfer-Encoding: gzip, chunked|Transfer-Encoding: chunked, x|Transfer-Encoding : chunked
Transfer-Encoding: \x0bchunked|Transfer-Encoding:\tchunked|Transfer-Encoding: "chunked"|Transfer_Encoding: chunked
Expect: 100-continue|Expect: 100-Continue|Expect: x|Upgrade: websocket|Upgrade: h2c|Upgrade: TLS/1.0|Connection: Upgrade
Connection: close|Connection: keep-alive|Connection: X-Free|Connection: Cookie|Connection: authorization, traceparent
Connection: close, X-Free|Connection:|Proxy-Connection: close|Proxy-Connection: keep-alive|Keep-Alive: timeout=5
Trailer: X-Free|TE: trailers|TE: chunked|HTTP2-Settings: AAAA|Host: a.test|Host: evil.test|Host: a.test:443|host: A.TEST
Host: a.test.|Host: |Host: a.test, evil.test|X-Forwarded-For: 203.0.113.9|X-Forwarded-For: 127.0.0.1|X-Forwarded-Proto: http
X-Forwarded-Proto: https|X-Forwarded-Host: evil.test|Forwarded: for=203.0.113.9;proto=http|X-Real-IP: 127.0.0.1|Via: 1.1 bff
Via: 1.1 other|bff-handoff: forged|BFF-Handoff: forged|bff.handoff: forged|bff_handoff: forged|Authorization: Bearer forged
authorization: Basic eDp5|Proxy-Authorization: Basic eDp5|DPoP: x|X-User: root|Remote-User: root|Content-Type: text/plain
Content-Type: application/json|Accept: text/event-stream|Accept: text/html|Range: bytes=0-1|If-Range: x|Max-Forwards: 0
Max-Forwards: 3|X-CSRF: 1|X-CSRF: 0|x-csrf: 1|X.CSRF: 1|X_CSRF: 1|Origin: https://evil.test|Origin: null
Origin: https://a.test|Origin: https://a.test:443|Sec-Fetch-Site: cross-site|Sec-Fetch-Site: none|Sec-Fetch-Site: same-site
Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document|Sec-Fetch-Dest: script|Sec-Fetch-Dest: image|Sec-Purpose: prefetch
Referer: https://evil.test/|X-Request-Id: one|X-Request-Id: two|X-Request-Id: a b|X-HTTP-Method-Override: DELETE
tracestate: a=b|traceparent: bad|traceparent: |Traceparent: 00-TRACE|X-Free: 2|x-free: 1|X-Free:|X-Free:1|X-Free: 1\x20
X-Free : 1|X-Free: \x00|X-Free: \x7f|X-Free: \xff|X-Free: a<CR>b|X-Free: a<LF>b|X-Free: a<CR><LF><CR><LF>GET /api/z HTTP/1.1
Bad|: x| folded: x|\tfolded|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==|Sec-WebSocket-Version: 13|Cookie: theme=light
Cookie: OWN=alice|Cookie: OWN=bob|Cookie: OWN=mallory|cookie: OWN=bob|Cookie: own=bob|Cookie: OWN=alice; OWN=alice
Cookie: OWN=alice; OWN=bob|Cookie: OWN=bob; OWN=alice|Cookie: OWN=alicebob|Cookie: OWN=alic|Cookie: OWN =bob|Cookie: OWN= bob
Cookie: OWN=bob; =OWN=alice|Cookie: OWN|Cookie: OWN=|Cookie: OWN="alice"|Cookie: OWN-login-x=y; OWN=alice|Cookie: OWNx=alice
Cookie: x=1,OWN=bob|Cookie: x="; OWN=bob; y="|Cookie: OWN=bob;theme=dark|Cookie:OWN=bob|Cookie: \xa0OWN=bob
Cookie: OWN=bob\xa0|Cookie: theme=dark; OWN=bob; _ga=1|Cookie: theme=light; OWN=alice; _ga=1|Cookie: ;;OWN=alice;;
Cookie: theme=a\xffb; OWN=alice""".replace(b"\n", b"|").split(b"|")
LINES = [
    line.replace(b"<CR>", b"\r")
    .replace(b"<LF>", b"\n")
    .replace(b"OWN", OWN)
    .replace(b"own=", OWN.lower() + b"=")
    .replace(b"00-TRACE", TRACE)
    for line in LINES
] + [b"traceparent: " + TRACE, b"traceparent: " + TRACE.replace(b"b", b"c"), b"traceparent: " + TRACE.upper(), b"traceparent:" + TRACE]
BYTES = [b"\0", b"\r", b"\n", b"\r\n", b"\t", b" ", b":", b";", b",", b"=", b"/", b"%", b".", b"\x7f", b"\xff", b"_", b"A", b"1"]


def mutants(start: bytes, lines: tuple[bytes, ...], body: bytes) -> Iterator[bytes]:
    """Every small change of one request, each of them alone."""
    for other in STARTS:
        yield write(other, lines, body)
    for at, line in enumerate(lines):
        rest = [*lines[:at], *lines[at + 1 :]]
        name, _, value = line.partition(b": ")
        yield write(start, rest, body)
        for place in (0, at, len(lines)):
            yield write(start, [*lines[:place], line, *lines[place:]], body)
            yield write(start, [*rest[:place], line, *rest[place:]], body)
        odd = [name + b":" + value, name + b" : " + value, name + b":\t" + value, line + b" ", line + b"\t", b" " + line, name + b":", name]
        odd += [
            name + b":  " + value,
            name + b": " + value.upper(),
            name.lower() + b": " + value,
            name.upper() + b": " + value,
            b"X" + line,
        ]
        odd += [name + b":\r\n " + value, name + b": " + value + b", " + value, line + b"\r", line + b"\0", line + b"\n"]
        odd.append(name.replace(b"-", b"_") + b": " + value)
        for other in (*odd, *LINES):
            yield write(start, [*lines[:at], other, *lines[at + 1 :]], body)
    for line in LINES:
        for place in (0, 1, len(lines) // 2, len(lines)):
            yield write(start, [*lines[:place], line, *lines[place:]], body)
    block = write(start, lines, body)
    for at in range(len(block)):
        yield block[:at] + block[at + 1 :]
        for byte in BYTES:
            yield block[:at] + byte + block[at:]
            yield block[:at] + byte + block[at + 1 :]
