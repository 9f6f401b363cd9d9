"""``bff init``: a first configuration that runs, and what to tell the provider."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from bff.cli.files import PRIVATE, write_new
from bff.cli.options import started_as
from bff.cli.report import CONFIG, OK, USAGE, Stop

_TEMPLATE = """\
#:schema ./bff.schema.json
# For completion and checks in an editor; after an upgrade: bff schema > bff.schema.json, beside this file.
# Written by `bff init`. Check it with `bff check`, ask the provider with `bff doctor`, run it with `bff serve`.
# Every value can come from the environment instead: BFF_PROVIDER__CLIENT_SECRET, or BFF_PROVIDER__CLIENT_SECRET_FILE
# for the name of a file that holds it.

[server]
listen = "127.0.0.1:8080"              # or unix:/path, or fd://3
public_origin = "{public_origin}"      # what the browser's address bar shows
manage_listen = "127.0.0.1:9464"       # health, metrics, administration; keep it private
workers = 1
trusted_proxies = []                   # CIDRs of your front proxy, so that its X-Forwarded-* are believed

[provider]
issuer = "{issuer}"
client_id = "{client_id}"
client_auth = "{client_auth}"
{credential}
scopes = ["openid", "profile", "offline_access"]

[session]
store = "sqlite:sessions.db"           # beside this file; sqlite:///absolute/path elsewhere
keys_file = "keys.json"
idle = "30m"
max = "12h"

[cookie]
same_site = "strict"                   # "lax" only where the server itself gates documents by session

# The app, or leave it to something else.
# [spa]
# directory = "web"                    # the built app, with its index.html
# upstream = "http://127.0.0.1:5173"   # or a development server

# One table per API. The longest path wins.
# [[routes]]
# path = "/api/"
# upstream = "https://api.internal/"
# scopes = []
"""

_CREDENTIALS = {
    "private_key_jwt": '# private_key_file = "client-key.pem"',
    "tls_client_auth": '# client_cert_file = "client.pem"\n# client_key_file = "client-key.pem"',
    "self_signed_tls_client_auth": '# client_cert_file = "client.pem"\n# client_key_file = "client-key.pem"',
}
_OTHERWISE = '# client_secret_file = "client-secret"   # or BFF_PROVIDER__CLIENT_SECRET'


@click.command()
@click.option("--issuer", required=True, help="Issuer URL of the provider.")
@click.option("--client-id", required=True, help="Client id registered there.")
@click.option("--public-origin", default="http://localhost:8080", show_default=True, help="What the browser will see.")
@click.option(
    "--client-auth",
    default="client_secret_basic",
    show_default=True,
    type=click.Choice(["client_secret_basic", "client_secret_post", *_CREDENTIALS]),
    help="How we prove who we are.",
)
@click.option("--output", default=".", show_default=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the files.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
def init(issuer: str, client_id: str, public_origin: str, client_auth: str, output: Path, force: bool) -> int:
    """Write a commented bff.toml, its schema and keys, and print the URLs to register at the provider."""
    from bff.session.sealing import KeyRing
    from bff.settings.reference import schema_text

    origin = _check(issuer, client_id, public_origin)
    text = _TEMPLATE.format(
        issuer=issuer,
        client_id=client_id,
        public_origin=origin,
        client_auth=client_auth,
        credential=_CREDENTIALS.get(client_auth, _OTHERWISE),
    )
    output.mkdir(parents=True, exist_ok=True)
    config, keys, schema = output / "bff.toml", output / "keys.json", output / "bff.schema.json"
    taken = [path for path in (config, keys, schema) if path.exists()]
    if taken and not force:
        raise Stop(USAGE, f"{taken[0]} exists already", "name another folder with --output, or add --force to replace it")
    write_new(config, text, mode=0o644, force=force)
    write_new(keys, KeyRing.generate().to_json(), mode=PRIVATE, force=force)
    write_new(schema, f"{schema_text()}\n", mode=0o644, force=force)
    click.echo(_next_steps(config, keys, schema, origin, client_auth))
    return OK


def _check(issuer: str, client_id: str, public_origin: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from bff.settings.types import IssuerText
    from bff.settings.values import Unusable, read_origin, read_url

    try:
        TypeAdapter(IssuerText).validate_python(issuer)
    except ValidationError as error:
        told = error.errors()[0].get("ctx", {})
        raise Stop(CONFIG, f"--issuer {told.get('what', 'is not a URL')}", told.get("fix", "write it as the provider does")) from None
    if read_url(issuer).plain_and_remote:
        fix = "use https; for a test network write https here and see provider.danger_plain_http_provider in docs/settings.md"
        raise Stop(CONFIG, "--issuer is plain http on a host that is not loopback", fix)
    try:
        origin = read_origin(public_origin)
    except Unusable as error:
        raise Stop(CONFIG, f"--public-origin {error.what}", error.fix) from None
    if origin.plain_and_remote:
        fix = "use https, where a front proxy or server.tls_cert_file speaks TLS"
        raise Stop(CONFIG, "--public-origin is plain http on a host that is not loopback: browsers keep no session there", fix)
    if not client_id.isprintable() or any(char in client_id for char in '"\\') or not client_id:
        raise Stop(CONFIG, "--client-id holds characters that no provider gives out", "copy it from the provider's console")
    return str(origin)


def _next_steps(config: Path, keys: Path, schema: Path, origin: str, client_auth: str) -> str:
    bff, named = started_as(), f"--config {shlex.quote(str(config))}"
    credential = (
        "the client secret (BFF_PROVIDER__CLIENT_SECRET or client_secret_file)"
        if client_auth.startswith("client_secret")
        else "the key files"
    )
    return f"""\
wrote {config}
wrote {keys} (mode 0600)
wrote {schema}

Register at the provider:
  redirect URI              {origin}/bff/callback
  post-logout redirect URI  {origin}/
  back-channel logout URI   {origin}/bff/backchannel-logout

Then:
  1. give us {credential}
  2. {bff} check {named}
  3. {bff} doctor {named}
  4. {bff} serve {named}
  5. open the app at {origin}, {_other_names(origin)}"""


def _other_names(origin: str) -> str:
    """What not to open in its place: the cookies and the redirect URI belong to one name."""
    return "not at 127.0.0.1, which is another site to a browser" if "//localhost" in origin else "under no other name"
