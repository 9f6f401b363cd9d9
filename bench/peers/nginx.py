"""nginx three ways: plain reverse proxy, AES-GCM cookie decryption in Lua (the token-handler shape of today), auth_request."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.processes import Group, free_port, wait_for_port
from bench.values import LARGE_BYTES, OTHER_COOKIES, Absent, Place, Running, Variant

MODULES = Path("/usr/lib/nginx/modules")
SESSION = "s"
# A JWT in size and alphabet: nobody here verifies it.
TOKEN = "eyJ" + (base64.urlsafe_b64encode(b"bench" * 140).decode().rstrip("=") * 2)[:903]

FRAME = """\
{modules}
daemon off;
{user}
worker_processes {workers};
pid {directory}/{name}.pid;
error_log stderr error;
events {{ worker_connections 4096; multi_accept off; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  client_body_temp_path {directory}/{name}-body;
  proxy_temp_path {directory}/{name}-proxy;
  fastcgi_temp_path {directory}/{name}-f; uwsgi_temp_path {directory}/{name}-u; scgi_temp_path {directory}/{name}-s;
{body}
}}
"""

UPSTREAM = """\
  sendfile on; tcp_nopush on;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type application/json;
    location = /api/small {{ return 200 '{small}'; }}
    location = /api/large {{ alias {directory}/large.bin; }}
    location = /api/echo {{ return 200 '{{"authorization":"$http_authorization","cookie":"$http_cookie"}}'; }}
  }}
"""

PROXY = """\
  map $http_cookie $other_cookies {{
    default $http_cookie;
    "~^(?<before>.*?)(?:; )?{session}=[^;]*(?:; )?(?<after>.*)$" $before$after;
  }}
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 300s; }}
  {extra}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location /api/ {{
      {inside}
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffers 32 8k;
      proxy_max_temp_file_size 0;
      proxy_pass http://api;
    }}
    {beside}
  }}
"""

HELPER = """\
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      if ($cookie_{session} = "") {{ return 401; }}
      add_header X-Token "{token}";
      return 204;
    }}
  }}
"""

LUA = """\
local ffi = require "ffi"
ffi.cdef[[
typedef struct evp_cipher_ctx_st EVP_CIPHER_CTX;
typedef struct evp_cipher_st EVP_CIPHER;
EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void);
const EVP_CIPHER *EVP_aes_256_gcm(void);
int EVP_DecryptInit_ex(EVP_CIPHER_CTX *, const EVP_CIPHER *, void *, const unsigned char *, const unsigned char *);
int EVP_DecryptUpdate(EVP_CIPHER_CTX *, unsigned char *, int *, const unsigned char *, int);
int EVP_DecryptFinal_ex(EVP_CIPHER_CTX *, unsigned char *, int *);
int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *, int, int, void *);
]]
local C, b64, key = ffi.C, require("ngx.base64"), ngx.decode_base64("{key}")
local context, size = C.EVP_CIPHER_CTX_new(), ffi.new("int[1]")
local plain, tag = ffi.new("unsigned char[8192]"), ffi.new("unsigned char[16]")
assert(C.EVP_DecryptInit_ex(context, C.EVP_aes_256_gcm(), nil, key, nil) == 1)

local M = {{}}
function M.open(value)
  local raw = b64.decode_base64url(value)
  if not raw or #raw < 29 or #raw > 8192 then return nil end
  local length = #raw - 28
  if C.EVP_DecryptInit_ex(context, nil, nil, nil, raw) ~= 1 then return nil end
  local from = ffi.cast("const unsigned char *", raw)
  if C.EVP_DecryptUpdate(context, plain, size, from + 12, length) ~= 1 then return nil end
  ffi.copy(tag, from + 12 + length, 16)
  C.EVP_CIPHER_CTX_ctrl(context, 0x11, 16, tag)
  if C.EVP_DecryptFinal_ex(context, plain + length, size) ~= 1 then return nil end
  return ffi.string(plain, length)
end
return M
"""

ACCESS = """\
access_by_lua_block {
  local value = ngx.var["cookie_s"]
  local token = value and require("opened").open(value)
  if not token then return ngx.exit(401) end
  ngx.req.set_header("Authorization", "Bearer " .. token)
}
proxy_set_header Cookie $other_cookies;
"""


def start_upstream(place: Place, port: int) -> Group:
    """The API behind everybody: a fixed small JSON, 100 KiB, and an echo of what it was sent."""
    small = '{"orders":[' + ",".join(f'{{"id":{n},"state":"open","total":{n}.50}}' for n in range(10, 15)) + "]}"
    small = small[:-1] + ',"note":"' + "x" * (219 - len(small) - len(',"note":""')) + '"}'
    (place.directory / "large.bin").write_bytes(os.urandom(LARGE_BYTES))
    group = Group()
    body = UPSTREAM.format(port=port, small=small, directory=place.directory)
    _run(group, place, "upstream", port, body, cpus=place.load_cpus, workers=1)
    return group


def _run(group: Group, place: Place, name: str, port: int, body: str, *, cpus: str | None, workers: int, modules: str = "") -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if nginx is None:
        raise Absent("nginx is missing (Debian: apt-get install nginx-light)")
    user = "user root;" if os.geteuid() == 0 else ""
    text = FRAME.format(modules=modules, user=user, workers=workers, directory=place.directory, name=name, body=body)
    config, log = place.directory / f"{name}.conf", place.directory / f"{name}.log"
    config.write_text(text)
    group.start([nginx, "-p", place.directory, "-e", log, "-c", config], log=log, cpus=cpus)
    wait_for_port(port, group, log)


def _proxy(place: Place, name: str, *, extra: str = "", inside: str = "", beside: str = "", modules: str = "") -> tuple[Group, int]:
    group, port = Group(), free_port()
    body = PROXY.format(port=port, upstream=place.upstream_port, session=SESSION, extra=extra, inside=inside, beside=beside)
    _run(group, place, name, port, body, cpus=place.variant_cpus, workers=place.workers, modules=modules)
    return group, port


def start_plain(place: Place) -> Running:
    group, port = _proxy(place, "ng_plain")
    return Running(port=port, group=group, cookies=[f"{OTHER_COOKIES}; {SESSION}={'x' * 80}"], token=False)


def start_lua(place: Place) -> Running:
    if not (MODULES / "ngx_http_lua_module.so").exists():
        raise Absent("nginx's Lua module is missing (Debian: apt-get install libnginx-mod-http-lua)")
    key = os.urandom(32)
    (place.directory / "opened.lua").write_text(LUA.format(key=base64.b64encode(key).decode()))
    modules = "".join(f"load_module {MODULES / name};\n" for name in ("ndk_http_module.so", "ngx_http_lua_module.so"))
    path = f'lua_package_path "{place.directory}/?.lua;/usr/share/lua/5.1/?.lua;;";'
    group, port = _proxy(place, "ng_lua", extra=path, inside=ACCESS, modules=modules)
    cookies = [f"{OTHER_COOKIES}; {SESSION}={_sealed(key)}" for _ in range(place.sessions)]
    return Running(port=port, group=group, cookies=cookies, cookie_name=f"{SESSION}=")


def _sealed(key: bytes) -> str:
    nonce = os.urandom(12)
    return base64.urlsafe_b64encode(nonce + AESGCM(key).encrypt(nonce, TOKEN.encode(), None)).decode().rstrip("=")


def start_auth(place: Place) -> Running:
    helper, helper_port = Group(), free_port()
    _run(helper, place, "ng_says_yes", helper_port, HELPER.format(port=helper_port, session=SESSION, token=TOKEN),
         cpus=place.variant_cpus, workers=place.workers)  # fmt: skip
    extra = f"upstream decides {{ server 127.0.0.1:{helper_port}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 300s; }}"
    inside = "auth_request /_decide; auth_request_set $token $upstream_http_x_token; proxy_set_header Cookie $other_cookies;"
    inside += ' proxy_set_header Authorization "Bearer $token";'
    beside = 'location = /_decide { internal; proxy_pass http://decides; proxy_http_version 1.1; proxy_set_header Connection "";'
    beside += ' proxy_pass_request_body off; proxy_set_header Content-Length ""; }'
    group, port = _proxy(place, "ng_auth", extra=extra, inside=inside, beside=beside)
    group.leaders.extend(helper.leaders)
    cookies = [f"{OTHER_COOKIES}; {SESSION}={os.urandom(30).hex()}" for _ in range(place.sessions)]
    return Running(port=port, group=group, cookies=cookies, cookie_name=f"{SESSION}=")


VARIANTS = [
    Variant("nginx plain", start_plain, "reverse proxy alone: no session, no token, cookie passed on"),
    Variant("nginx + Lua", start_lua, "AES-256-GCM cookie opened per request by OpenSSL through LuaJIT's FFI"),
    Variant("nginx + auth_request", start_auth, "asks a static nginx that always says yes: a lower bound for any real decision service"),
]
