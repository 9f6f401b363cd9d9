"""Plain HTTP for the command line: what the doctor and the health check ask, seen raw, with nothing followed or believed."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

TIMEOUT_S = 6.0
LARGEST_BYTES = 1024 * 1024
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")


class Unreachable(Exception):
    """No answer; the text says why in few words. ``fix`` is empty where only the asker knows what to do."""

    def __init__(self, why: str, fix: str = "") -> None:
        super().__init__(why)
        self.fix = fix


def explain(error: OSError, host: str) -> Unreachable:
    """Why a connection to ``host`` came to nothing."""
    match error:
        case ssl.SSLCertVerificationError():
            return Unreachable(f"its certificate is not trusted ({error.verify_message})")
        case ssl.SSLError() if error.reason in _NOT_TLS:
            return Unreachable("it does not speak TLS there", "name the port that does, or write http:// where it is on this machine")
        case ssl.SSLError():
            return Unreachable(f"TLS failed ({error.reason})" if error.reason else "TLS failed")
        case TimeoutError():
            return Unreachable(f"no answer within {TIMEOUT_S:.0f} s")
        case socket.gaierror():
            return Unreachable("its name cannot be resolved")
        case ConnectionRefusedError() if _is_here(host):
            return Unreachable("nothing listens there (connection refused)", "is it running? start it, or correct the port")
        case _:
            return Unreachable(error.strerror or type(error).__name__)


def _is_here(host: str) -> bool:
    """Lightly: bff.settings.values is more than a health check imports."""
    return host in ("localhost", "::1") or host.endswith(".localhost") or host.startswith("127.")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. Header names in lower case; of repeated fields the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


class Http:
    """GET and form POST, one connection each; no redirects, no proxies, no environment (K3, K4)."""

    def __init__(self, *, ca_file: str = "", client_cert_file: str = "", client_key_file: str = "") -> None:
        self._ca_file = ca_file
        self._client_cert = (client_cert_file, client_key_file)

    def get(self, url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Reply:
        """The answer to a GET (or DELETE). Unreachable."""
        return self._send(method, url, None, headers or {})

    def post(self, url: str, form: Sequence[tuple[str, str]], headers: Mapping[str, str] | None = None) -> Reply:
        """The answer to a form. Unreachable."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._send("POST", url, urlencode(form).encode(), {**kind, **(headers or {})})

    def _send(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = self._connect(parts.scheme, parts.hostname or "", parts.port)
        try:
            return exchange(connection, method, target, body, headers)
        finally:
            connection.close()

    def _connect(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=build_tls(self._ca_file, *self._client_cert))


def build_tls(ca_file: str, client_cert_file: str = "", client_key_file: str = "") -> ssl.SSLContext:
    """A verifying context, with our certificate where one is named."""
    context = ssl.create_default_context(cafile=ca_file or None)
    if client_cert_file:
        context.load_cert_chain(client_cert_file, client_key_file or None)
    return context


def ask_unix(path: str, target: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Reply:
    """The answer of a server on a Unix socket. Unreachable."""
    connection = _UnixConnection(path)
    try:
        return exchange(connection, method, target, None, headers or {})
    finally:
        connection.close()


def exchange(connection: http.client.HTTPConnection, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
    """One request and its whole, bounded answer. Unreachable for whatever goes wrong."""
    try:
        connection.request(method, target, body=body, headers={"Connection": "close", "Accept": "application/json, */*", **headers})
        response = connection.getresponse()
        data = response.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise explain(error, connection.host) from None
    except (http.client.HTTPException, ValueError):
        raise Unreachable("it does not answer in HTTP") from None
    if len(data) > LARGEST_BYTES:
        raise Unreachable("it answers with more than 1 MiB")
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, data)
