"""The key ring: authenticated encryption, blind indexes and pseudonyms under keys derived per purpose.

Newest key first: it seals, all of them open (OWASP ASVS 11.2.2). Every field that goes into a key or an
authentication tag is length-prefixed, so no byte can move between neighbours (attack C2), and the purpose is bound
both into the key and the tag, so one sealed thing never passes for another (attack S9).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bff.base.errors import ConfigError, SealBroken

VERSION = b"\x01"
KEY_ID_BYTES = 4
NONCE_BYTES = 12
TAG_BYTES = 16
OVERHEAD_BYTES = len(VERSION) + KEY_ID_BYTES + NONCE_BYTES + TAG_BYTES
SECRET_BYTES = 32
MAX_KEYS = 32
MAX_TEXT = 8192

_FROM_URL_ALPHABET = bytes.maketrans(b"-_", b"+/")
_NOT_URL_ALPHABET = frozenset("+/=\n")


class _KeyEntry(msgspec.Struct, forbid_unknown_fields=True):
    kid: str
    secret: str
    created_at: float


class _KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    keys: list[_KeyEntry]


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the ring. ``kid`` is 8 hex characters, ``secret`` 32 random bytes, ``created_at`` epoch seconds."""

    kid: str
    secret: bytes = field(repr=False)
    created_at: float

    @property
    def id_bytes(self) -> bytes:
        return bytes.fromhex(self.kid)


def join_prefixed(*parts: bytes) -> bytes:
    """The parts, each behind its length: different parts never give the same bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def derive(secret: bytes, *info: bytes) -> bytes:
    """A 32-byte key from ``secret`` for one use (HKDF-SHA256, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=join_prefixed(b"bff", *info)).derive(secret)


def encode_text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_text(text: str) -> bytes:
    """Exactly what ``encode_text`` gave: unpadded, canonical base64url, nothing tolerated. SealBroken."""
    if len(text) > MAX_TEXT or not text.isascii() or not _NOT_URL_ALPHABET.isdisjoint(text):
        raise SealBroken("not base64url")
    try:
        data = binascii.a2b_base64(text.encode().translate(_FROM_URL_ALPHABET) + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error:
        raise SealBroken("not base64url") from None
    if encode_text(data) != text:
        raise SealBroken("not canonical base64url")
    return data


class KeyRing:
    """The keys of one deployment. Mutable only through ``adopt``; owner: the assembly. Safe to share in one thread.

    A key whose ``created_at`` lies ahead only opens until its time comes, so that it can reach every instance before
    the first value sealed with it does (F46).
    """

    def __init__(self, keys: Sequence[Key], *, now: Callable[[], float] = time.time) -> None:
        if not keys:
            raise ConfigError("The key ring holds no key. Create one with: bff keys new")
        self._now = now
        self._keys = tuple(keys)
        self._by_id = {key.id_bytes: key for key in self._keys}
        self._ciphers: dict[tuple[bytes, str], AESGCM] = {}
        self._derived: dict[tuple[bytes, str], bytes] = {}

    @classmethod
    def from_json(cls, text: str) -> KeyRing:
        """Read a key ring file; ConfigError names every problem and never shows a secret."""
        try:
            entries = msgspec.json.decode(text, type=_KeyFile).keys
        except (msgspec.DecodeError, UnicodeError):
            raise ConfigError('The key ring is not {"keys": [{"kid", "secret", "created_at"}]}. Create one with: bff keys new') from None
        problems: list[str] = []
        keys = [key for place, entry in enumerate(entries) if (key := _read_key(place, entry, problems)) is not None]
        problems += _ring_problems(entries)
        if problems:
            raise ConfigError(*problems)
        return cls(keys)

    @classmethod
    def generate(cls, *, now: float | None = None) -> KeyRing:
        return cls([_new_key(now)])

    def to_json(self) -> str:
        """The file's text: it holds the secrets, so it belongs into a file of mode 0600 and nowhere else."""
        entries = [{"kid": key.kid, "secret": base64.b64encode(key.secret).decode(), "created_at": key.created_at} for key in self._keys]
        return msgspec.json.format(msgspec.json.encode({"keys": entries}), indent=2).decode() + "\n"

    def rotated(self, *, now: float | None = None) -> KeyRing:
        """A ring with a new key in front. All old ones still open. With ``now`` ahead it seals from then on only.

        A key that would begin to seal after the new one stands back: it takes the new one's time and so never seals here, but opens
        what an instance that has not read this ring seals with it. The key added last has the last word, as an emergency needs.
        """
        if len(self._keys) >= MAX_KEYS:
            raise ConfigError(f"The key ring already holds {MAX_KEYS} keys; fix: remove the oldest ones with --drop-older")
        new = _new_key(now)
        return KeyRing([new, *(replace(key, created_at=min(key.created_at, new.created_at)) for key in self._keys)], now=self._now)

    def without_older(self, created_before: float) -> KeyRing:
        """A ring without the keys made before that time; the one that seals always stays, with those ahead of it."""
        staying = self._keys.index(self.newest()) + 1
        old = (key for key in self._keys[staying:] if key.created_at >= created_before)
        return KeyRing([*self._keys[:staying], *old], now=self._now)

    def adopt(self, other: KeyRing) -> None:
        """Become ``other`` in place: whoever holds this ring uses the new keys from the next call on."""
        self._keys, self._by_id = other._keys, other._by_id
        self._ciphers.clear()
        self._derived.clear()

    @property
    def kids(self) -> tuple[str, ...]:
        return tuple(key.kid for key in self._keys)

    def newest(self) -> Key:
        """The key that seals: the newest whose time has come."""
        return self._keys[0] if len(self._keys) == 1 else self.sealer_at(self._now())

    def sealer_at(self, when: float) -> Key:
        """The key that seals at that time; the oldest where none of them did yet."""
        return next((key for key in self._keys if key.created_at <= when), self._keys[-1])

    def begins_after(self, when: float) -> tuple[str, ...]:
        """The kids of the keys that would begin to seal after that time only."""
        return tuple(key.kid for key in self._keys if key.created_at > when)

    def find_key(self, id_bytes: bytes) -> Key | None:
        return self._by_id.get(id_bytes)

    def subkey(self, key: Key, purpose: str) -> bytes:
        """The key derived from ``key`` for ``purpose``. Purposes are constants of the program: the cache stays small."""
        slot = (key.id_bytes, purpose)
        derived = self._derived.get(slot)
        if derived is None:
            derived = self._derived[slot] = derive(key.secret, purpose.encode())
        return derived

    def seal(self, purpose: str, plaintext: bytes, context: bytes = b"") -> str:
        """Encrypt and authenticate; only ``open`` with the same purpose and context gives it back.

        Nonces are random: at 2^32 seals under one key the chance of a repeat is still below 2^-32 (NIST SP 800-38D §8.3).
        """
        key = self.newest()
        header = VERSION + key.id_bytes
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher(key, purpose).encrypt(nonce, plaintext, join_prefixed(header, purpose.encode(), context))
        return encode_text(header + nonce + sealed)

    def open(self, purpose: str, text: str, context: bytes = b"") -> tuple[bytes, bool]:
        """The plaintext, and whether the newest key sealed it. SealBroken for whatever else: one outcome, no oracle (S10)."""
        data = decode_text(text)
        if len(data) < OVERHEAD_BYTES:
            raise SealBroken("too short")
        header, nonce, sealed = data[:5], data[5:17], data[17:]
        key = self._by_id.get(header[1:])
        if header[:1] != VERSION or key is None:
            raise SealBroken("unknown key or version")
        try:
            plaintext = self._cipher(key, purpose).decrypt(nonce, sealed, join_prefixed(header, purpose.encode(), context))
        except InvalidTag:
            raise SealBroken("wrong tag") from None
        return plaintext, key is self.newest()

    def indexes(self, kind: str, *parts: str) -> tuple[bytes, ...]:
        """The blind index of the parts under every key, newest first: equal parts meet, nobody without a key can tell whose."""
        message = join_prefixed(kind.encode(), *(_utf8(part) for part in parts))
        return tuple(hmac.digest(self.subkey(key, "blind index"), message, hashlib.sha256) for key in self._sealing_first())

    def pseudonym(self, *parts: str) -> str:
        """16 hex characters that stand for the parts in logs (PRIV-6). Changes with the newest key."""
        message = join_prefixed(*(_utf8(part) for part in parts))
        return hmac.digest(self.subkey(self.newest(), "pseudonym"), message, hashlib.sha256)[:8].hex()

    def admin_token(self) -> str:
        """The management listener's credential: who can read the key ring file may administer."""
        return encode_text(self.subkey(self.newest(), "administration"))

    def signing_keys(self, purpose: str) -> list[str]:
        """Derived keys for itsdangerous, which signs with the last (attack C1: not the first): oldest to newest."""
        return [self.subkey(key, f"signing {purpose}").hex() for key in reversed(self._sealing_first())]

    def _sealing_first(self) -> list[Key]:
        """The sealing key, then the older ones, then those whose time has not come."""
        sealing = self._keys.index(self.newest())
        return [*self._keys[sealing:], *self._keys[:sealing]]

    def _cipher(self, key: Key, purpose: str) -> AESGCM:
        slot = (key.id_bytes, purpose)
        cipher = self._ciphers.get(slot)
        if cipher is None:
            cipher = self._ciphers[slot] = AESGCM(self.subkey(key, f"seal {purpose}"))
        return cipher


def _utf8(text: str) -> bytes:
    """UTF-8 that also takes the lone surrogates JSON may carry: still one text, one encoding."""
    return text.encode("utf-8", "surrogatepass")


def _new_key(now: float | None) -> Key:
    created_at = time.time() if now is None else now
    return Key(secrets.token_hex(KEY_ID_BYTES), secrets.token_bytes(SECRET_BYTES), math.floor(created_at * 1000) / 1000)


def _read_key(place: int, entry: _KeyEntry, problems: list[str]) -> Key | None:
    found = len(problems)
    if len(entry.kid) != 2 * KEY_ID_BYTES or not set(entry.kid) <= set("0123456789abcdef"):
        problems.append(f"keys[{place}].kid must be {2 * KEY_ID_BYTES} lower-case hex digits.")
    try:
        secret = base64.b64decode(entry.secret, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != SECRET_BYTES:
        problems.append(f"keys[{place}].secret must be {SECRET_BYTES} random bytes in base64.")
    elif len(set(secret)) < 16 or all(0x20 <= byte < 0x7F for byte in secret):
        # C9: a passphrase of 32 letters decodes too; no 32 random bytes look like one (p < 1e-13).
        problems.append(f"keys[{place}].secret is not random. Create keys with: bff keys new")
    return Key(entry.kid, secret, entry.created_at) if len(problems) == found else None


def _ring_problems(entries: Sequence[_KeyEntry]) -> list[str]:
    problems = []
    if not entries:
        problems.append("The key ring holds no key. Create one with: bff keys new")
    if len(entries) > MAX_KEYS:
        problems.append(f"The key ring holds more than {MAX_KEYS} keys.")
    if len({entry.kid for entry in entries}) < len(entries):
        problems.append("Two keys of the ring have the same kid.")
    if any(newer.created_at < older.created_at for newer, older in pairwise(entries)):
        problems.append("The keys of the ring must stand newest first.")
    return problems
