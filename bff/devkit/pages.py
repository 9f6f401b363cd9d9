"""The pages a person sees. Plain HTML, one inline style with a nonce, no script, nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from bff.devkit.model import DevClient, Interaction, SignIn
from bff.devkit.people import Person
from bff.devkit.style import STYLE

SCOPE_TEXT = {
    "openid": "Know that it is you",
    "profile": "See your name, department, region and roles",
    "email": "See your e-mail address",
    "offline_access": "Stay signed in while you are away",
    "orders:read": "Read orders",
    "orders:write": "Create orders",
    "payments": "Release payments",
}


def page(title: str, body: str, *, nonce: str, wide: bool = False) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
        f'<style nonce="{nonce}">{STYLE}</style></head><body><main class="{"wide" if wide else "narrow"}">{body}</main>'
        "<footer>Development provider. It runs on this computer only and knows no real passwords.</footer></body></html>"
    )


def login_page(people: Iterable[Person], key: str, interaction: Interaction, *, nonce: str, note: str = "") -> str:
    client, second = interaction.request.client, interaction.acr == "mfa"
    hint = interaction.request.login_hint
    shown = sorted(people, key=lambda person: hint not in (person.key, person.email, person.sub))
    code = (
        '<label for="otp">One-time code</label>'
        '<input type="text" id="otp" name="otp" value="123456" inputmode="numeric" autocomplete="off">'
        "<p>This action needs a second factor. In this demonstration any six digits will do.</p>"
        if second
        else ""
    )
    body = (
        f"<h1>Sign in</h1><p>to continue to <strong>{escape(client.title)}</strong></p>"
        f"{_note(note)}"
        f'<form method="post" action="/login"><input type="hidden" name="interaction" value="{escape(key)}">{code}'
        f"{''.join(map(_person, shown))}</form>"
    )
    return page("Sign in", body, nonce=nonce)


def _person(person: Person) -> str:
    initials = "".join(word[0] for word in person.name.split()[:2])
    about = f"{person.department} · {person.region.upper()} · {', '.join(person.roles)}"
    return (
        f'<button class="person {escape(person.key)}" name="person" value="{escape(person.key)}">'
        f'<span class="face">{escape(initials)}</span>'
        f'<span class="who"><b>{escape(person.name)}</b><span>{escape(about)}</span></span></button>'
    )


def consent_page(key: str, interaction: Interaction, sign_in: SignIn, *, nonce: str) -> str:
    client = interaction.request.client
    wishes = "".join(f"<li>{escape(SCOPE_TEXT.get(scope, scope))}</li>" for scope in interaction.request.scopes)
    body = (
        f"<h1>{escape(client.title)} asks for access</h1>"
        f"<p>You are signed in as <strong>{escape(sign_in.person.name)}</strong>. It would like to:</p>"
        f'<ul class="plain">{wishes}</ul><form method="post" action="/consent">'
        f'<input type="hidden" name="interaction" value="{escape(key)}">'
        '<div class="row"><button class="go" name="decision" value="allow">Allow</button>'
        '<button name="decision" value="deny">Cancel</button></div></form>'
    )
    return page("Allow access", body, nonce=nonce)


def sign_out_page(hidden: Sequence[tuple[str, str]], *, nonce: str) -> str:
    fields = "".join(f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in hidden)
    body = (
        "<h1>Sign out?</h1><p>This ends your session here and in every app you opened with it.</p>"
        f'<form method="post" action="/end-session/confirm">{fields}<button class="go" name="confirm" value="yes">Sign out</button></form>'
    )
    return page("Sign out", body, nonce=nonce)


def message_page(title: str, text: str, *, nonce: str) -> str:
    return page(title, f"<h1>{escape(title)}</h1><p>{escape(text)}</p>", nonce=nonce)


def admin_page(
    *,
    issuer: str,
    people: Iterable[Person],
    signed_in: Sequence[SignIn],
    entries: Sequence[dict[str, object]],
    clients: Iterable[DevClient],
    nonce: str,
) -> str:
    body = (
        f"<h1>Development provider</h1><p>Issuer <code>{escape(issuer)}</code>, "
        f"clients {escape(', '.join(client.client_id for client in clients))}</p>"
        '<div class="row"><form method="post" action="/admin/rotate-keys"><button>Rotate signing keys</button></form>'
        '<form method="post" action="/admin/expire-tokens"><button>Expire all access tokens</button></form></div>'
        "<h2>People</h2><table><tr><th>Person</th><th>Signed in</th><th></th></tr>"
        f"{''.join(_admin_row(person, signed_in) for person in people)}</table>"
        "<h2>What happened last</h2><table><tr><th>What</th><th>Outcome</th><th>Details</th></tr>"
        f"{''.join(map(_entry, entries))}</table>"
    )
    return page("Development provider", body, nonce=nonce, wide=True)


def _admin_row(person: Person, signed_in: Sequence[SignIn]) -> str:
    browsers = [one for one in signed_in if one.person.key == person.key]
    where = ", ".join(sorted({client for one in browsers for client in one.clients})) or "nowhere"
    return (
        f"<tr><td><strong>{escape(person.name)}</strong><br>{escape(person.sub)}</td>"
        f"<td>{len(browsers)} browser(s): {escape(where)}</td><td>"
        f'<form method="post" action="/admin/sign-out"><input type="hidden" name="sub" value="{escape(person.sub)}">'
        "<button>Sign this person out everywhere</button></form></td></tr>"
    )


def _entry(entry: dict[str, object]) -> str:
    details = ", ".join(f"{name}={value}" for name, value in entry.items() if name not in ("kind", "at", "outcome") and value)
    return f"<tr><td>{escape(str(entry['kind']))}</td><td>{escape(str(entry['outcome']))}</td><td><code>{escape(details)}</code></td></tr>"


def _note(text: str) -> str:
    return f'<p class="note" role="alert">{escape(text)}</p>' if text else ""
