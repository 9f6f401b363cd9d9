"""How the provider says no."""

from __future__ import annotations


class OAuthRefusal(Exception):
    """An error answer of a machine endpoint (RFC 6749 §5.2)."""

    def __init__(self, error: str, description: str = "", *, status: int = 400) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.status = status


class PageRefusal(Exception):
    """A refusal shown on a page: nothing about the request is sure enough to redirect by (RFC 6749 §4.1.2.1)."""


class RedirectRefusal(Exception):
    """A refusal sent back to the client's redirect URI."""

    def __init__(self, redirect_uri: str, state: str, error: str, description: str = "") -> None:
        super().__init__(error)
        self.redirect_uri = redirect_uri
        self.state = state
        self.error = error
        self.description = description
