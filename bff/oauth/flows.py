"""The OAuth and OpenID Connect client: each public method is one flow from first value to last.

Decisions are in the pure modules; the only I/O is the wire's, and the provider's statements come from the directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from bff.base.clock import Clock
from bff.base.errors import (
    GrantRefused,
    GrantRevoked,
    LoginFailed,
    LoginReason,
    ProviderError,
    ProviderMisbehaved,
    ProviderUnavailable,
    TokenInvalid,
)
from bff.base.events import Event, EventKind, Probe, no_probe
from bff.base.secret import Secret
from bff.oauth import grants, logout
from bff.oauth.answers import Answer, ClientRefused, read_document
from bff.oauth.authorize import Parameters, authorization_parameters, authorization_url, build_pending_login, check_callback
from bff.oauth.breaker import Breaker
from bff.oauth.client import Wire
from bff.oauth.client_auth import ClientAuthenticator
from bff.oauth.directory import FETCH_TIMEOUT_S, Directory
from bff.oauth.exchange import Exchange, FormPost, exchange, revocation
from bff.oauth.id_token import Expectation, build_expectation, check_id_token, check_same_person, read_id_token
from bff.oauth.jsontext import JsonObject
from bff.oauth.types import ClientIdentity, Identity, IdTokenRules, LogoutNotice, PendingLogin, Provider, TokenSet
from bff.oauth.userinfo import add_user_claims

REFRESH_TIMEOUT_S = 30.0
"""A refresh is waited for longer than anything else: who gives up on a provider that rotates has lost the refresh token that is
on its way, and with it the session (F2, F6). Callers wait less long (bff.session.credentials) and leave it running."""


class OAuthClient:
    """A confidential client of one provider. Holds nothing of any user; its only state: one breaker per endpoint, and ``resources``.

    ``resources`` are asked for at login (RFC 8707 §2.2); ``own_resource``, one of them, is the audience of the login's own access
    token. Without it that token is whatever the provider gives, and never one for another route's audience (TOKEN-12). ``more`` goes into
    each authorization request; its ``prompt`` is for logins that choose none.
    Every method may be cancelled; a request that has left may have had its effect all the same, so a refresh belongs in a
    flight of its caller.
    """

    def __init__(
        self,
        *,
        issuer: str,
        identity: ClientIdentity,
        rules: IdTokenRules,
        directory: Directory,
        wire: Wire,
        clock: Clock,
        probe: Probe = no_probe,
        use_par: Literal["auto", "always", "never"] = "auto",
        more: Mapping[str, str] = MappingProxyType({}),
        resources: tuple[str, ...] = (),
        own_resource: str = "",
        userinfo: bool = False,
    ) -> None:
        self._issuer = issuer
        self._client_id = identity.client_id
        self._rules = rules
        self._directory = directory
        self._wire = wire
        self._clock = clock
        self._probe = probe
        self._use_par = use_par
        self._prompt = more.get("prompt")
        self._more = [(name, value) for name, value in more.items() if name != "prompt" and value]
        self._resources = resources
        self._own_resource = own_resource
        self._userinfo = userinfo
        self._authenticator = ClientAuthenticator(identity=identity, clock=clock)
        self._breakers: dict[str, Breaker] = {}

    def adopt(self, resources: tuple[str, ...]) -> None:
        """Ask for these resources at logins from now on: the routes that need them came anew (SIGHUP)."""
        self._resources = resources

    @property
    def failing(self) -> bool:
        """Whether one of the provider's endpoints failed lately, several times in a row (F24)."""
        return any(breaker.failing for breaker in self._breakers.values())

    async def provider(self) -> Provider:
        """The provider's checked metadata. ProviderUnavailable when it was never fetched and can not be now."""
        return await self._directory.provider()

    async def begin_login(
        self,
        *,
        redirect_uri: str,
        scopes: tuple[str, ...],
        return_to: str,
        acr_values: tuple[str, ...] = (),
        max_age: int | None = None,
        prompt: str = "",
        login_hint: str = "",
        ui_locales: str = "",
        subject: str = "",
        previous: str = "",
    ) -> tuple[PendingLogin, str]:
        """A new login: what to remember, and where to send the browser. Pushed first where the provider can (RFC 9126).

        ProviderError: in particular, a failed push never becomes a plain request (PAR-4).
        """
        provider = await self.provider()
        pending = build_pending_login(
            issuer=self._issuer,
            redirect_uri=redirect_uri,
            scopes=scopes,
            return_to=return_to,
            created_at=self._clock.now(),
            acr_values=acr_values,
            max_age=max_age,
            prompt=prompt,
            usual_prompt=self._prompt,
            subject=subject,
            previous=previous,
        )
        parameters = authorization_parameters(
            pending, client_id=self._client_id, resources=self._resources, login_hint=login_hint, ui_locales=ui_locales, more=self._more
        )
        if self._pushes(provider):
            parameters = await self._push(provider, parameters)
        return pending, authorization_url(provider, parameters)

    async def finish_login(self, pending: PendingLogin, parameters: Sequence[tuple[str, str]]) -> tuple[TokenSet, Identity]:
        """The tokens and the person of ``pending``, from the callback's ``parameters``. The code is posted once, whatever happens.

        LoginFailed: the answer or its code does not belong to this login, was denied, or another person came back from a
        step-up. TokenInvalid: the ID token; rules ``acr`` and ``max_age`` mean a weaker login than asked. ProviderError otherwise.
        """
        provider = await self.provider()
        code = check_callback(pending, provider, parameters)
        tokens = await self._redeem(provider, pending, code)
        expected = build_expectation(pending, client_id=self._client_id, now=self._clock.now())
        identity = await self._identify(tokens, expected, code)
        if pending.subject and identity.subject != pending.subject:
            raise LoginFailed(LoginReason.MISMATCH, "another person came back")
        return tokens, await self._with_user_claims(provider, identity, tokens)

    async def refresh(
        self,
        *,
        issuer: str,
        subject: str,
        auth_time: int | None,
        nonce: str = "",
        refresh_token: Secret,
        audience: str = "",
        scopes: tuple[str, ...] = (),
    ) -> tuple[TokenSet, Identity | None]:
        """New tokens for the same login. GrantRevoked for invalid_grant alone; every other failure leaves the grant alive.

        An Identity comes only from an ID token that passed every rule (TOKEN-11). One for another person or issuer raises
        TokenInvalid ``sub``/``iss``; any other fault is reported and its claims dropped, but the tokens are returned: the
        provider may have rotated the refresh token, and losing that would log the user out.
        """
        if issuer != self._issuer:
            raise TokenInvalid("iss", "the session is of another provider")
        provider = await self.provider()
        form = grants.refresh_form(refresh_token, audience or self._own_resource, scopes)
        tokens = await self._token(provider, form, "refresh", timeout_s=REFRESH_TIMEOUT_S)
        if not tokens.id_token:
            return tokens, None
        identity = await self._identify_again(tokens, subject=subject, auth_time=auth_time, nonce=nonce)
        if identity is None or not (self._userinfo and provider.userinfo_endpoint):
            return tokens, identity
        complete = await self._with_user_claims(provider, identity, tokens)
        # Half of the claims would replace all of them: without UserInfo's the session keeps those it has.
        return tokens, None if complete is identity else complete

    async def client_token(self, *, audience: str, scopes: tuple[str, ...]) -> TokenSet:
        """A token for ourselves (client_credentials, RFC 6749 §4.4). ProviderError."""
        return await self._token(await self.provider(), grants.client_credentials_form(audience, scopes), "client_credentials")

    async def revoke(self, token: Secret, token_type_hint: str) -> None:
        """Gives ``token`` up (RFC 7009); an unknown one is success, and so is a provider without the endpoint. ProviderError."""
        provider = await self.provider()
        if token and provider.revocation_endpoint:
            form = grants.revocation_form(token, token_type_hint)
            await self._drive(revocation(provider.revocation_endpoint, form, lambda: self._authenticator.prove(provider)))

    async def check_logout_token(self, token: str) -> LogoutNotice:
        """What a back-channel logout token ends. TokenInvalid; ProviderUnavailable when its key can not be had.

        The caller still has to refuse a ``jti`` it has seen (BCLO-8): that memory is shared by all workers.
        """
        jws = logout.read_logout_token(token, self._rules, issuer=self._issuer)
        await self._directory.check_signature(jws)
        return logout.check_logout_claims(jws, self._rules, issuer=self._issuer, client_id=self._client_id, now=self._clock.now())

    async def end_session_url(self, *, id_token_hint: Secret, post_logout_redirect_uri: str, state: str) -> str:
        """Where to sign out at the provider; "" when it has no such place or is not known: logout here never waits for it."""
        try:
            return logout.build_end_session_url(
                await self.provider(),
                client_id=self._client_id,
                id_token_hint=id_token_hint,
                post_logout_redirect_uri=post_logout_redirect_uri,
                state=state,
            )
        except ProviderError:
            return ""

    def _pushes(self, provider: Provider) -> bool:
        offered = bool(provider.pushed_authorization_request_endpoint)
        wanted = self._use_par == "always" or provider.require_pushed_authorization_requests
        if wanted and not offered:
            raise ProviderMisbehaved("pushed requests are demanded but there is no endpoint for them")
        return wanted or (offered and self._use_par == "auto")

    async def _push(self, provider: Provider, parameters: Parameters) -> list[tuple[str, str]]:
        document = await self._post(provider, provider.pushed_authorization_request_endpoint, parameters, "push", good=(200, 201))
        request_uri = document.get("request_uri")
        if not isinstance(request_uri, str) or not 0 < len(request_uri) <= 1024:
            raise ProviderMisbehaved("push: no usable request_uri")
        return [("client_id", self._client_id), ("request_uri", request_uri)]

    async def _redeem(self, provider: Provider, pending: PendingLogin, code: str) -> TokenSet:
        try:
            return await self._token(provider, grants.redemption_form(pending, code, self._own_resource), "code")
        except GrantRefused as refused:
            known = refused.error if isinstance(refused, GrantRevoked) else None
            raise LoginFailed(LoginReason.INCOMPLETE, f"the code was refused: {refused.error}", oauth_error=known) from None

    async def _token(self, provider: Provider, form: grants.Form, what: str, *, timeout_s: float | None = None) -> TokenSet:
        document = await self._post(provider, provider.token_endpoint, form, what, timeout_s=timeout_s)
        return grants.read_token_set(document, now=self._clock.now())

    async def _post(
        self,
        provider: Provider,
        url: str,
        form: Sequence[tuple[str, str]],
        what: str,
        *,
        good: tuple[int, ...] = (200,),
        timeout_s: float | None = None,
    ) -> JsonObject:
        return await self._drive(exchange(what, url, form, lambda: self._authenticator.prove(provider), good=good, timeout_s=timeout_s))

    async def _drive(self, steps: Exchange) -> JsonObject:
        """Carry an exchange's requests to the wire and its answers back."""
        request = next(steps)
        try:
            while True:
                request = steps.send(await self._through_breaker(request))
        except StopIteration as finished:
            document: JsonObject = finished.value
            return document
        except ClientRefused as refused:
            self._probe(Event(EventKind.CLIENT_CREDENTIAL_REFUSED, outcome=refused.code))
            raise

    async def _through_breaker(self, request: FormPost) -> Answer:
        breaker = self._breakers.setdefault(request.url, Breaker(clock=self._clock))
        breaker.enter()
        try:
            answer = await self._wire.post_form(request.url, request.form, headers=request.headers, timeout_s=request.timeout_s)
        except ProviderUnavailable:
            breaker.failed(None)
            raise
        if answer.status >= 500 or answer.status == 429:
            breaker.failed(answer.retry_after_s)
        else:
            breaker.answered()
        return answer

    async def _identify(self, tokens: TokenSet, expected: Expectation, code: str = "") -> Identity:
        try:
            jws = read_id_token(tokens.id_token.reveal(), self._rules, issuer=expected.issuer)
            await self._directory.check_signature(jws, patient=True)
            return check_id_token(jws, self._rules, expected, access_token=tokens.access_token.reveal(), code=code)
        except TokenInvalid as invalid:
            self._report(invalid)
            raise

    async def _identify_again(self, tokens: TokenSet, *, subject: str, auth_time: int | None, nonce: str) -> Identity | None:
        try:
            jws = read_id_token(tokens.id_token.reveal(), self._rules, issuer=self._issuer)
            check_same_person(jws, subject=subject, auth_time=auth_time)
            await self._directory.check_signature(jws)
            expected = Expectation(
                issuer=self._issuer,
                client_id=self._client_id,
                now=self._clock.now(),
                nonce=nonce if nonce and "nonce" in jws.claims else None,
            )
            return check_id_token(jws, self._rules, expected, access_token=tokens.access_token.reveal())
        except TokenInvalid as invalid:
            self._report(invalid)
            if invalid.rule in ("sub", "iss"):
                raise
            return None
        except ProviderError:  # no key to verify with: the claims wait, the tokens do not
            return None

    async def _with_user_claims(self, provider: Provider, identity: Identity, tokens: TokenSet) -> Identity:
        """UserInfo can add claims; its failure changes nothing (UINFO-3): a token for an API is refused there by right."""
        if not (self._userinfo and provider.userinfo_endpoint):
            return identity
        authorization = f"{tokens.token_type} {tokens.access_token.reveal()}"
        try:
            answer = await self._wire.get(provider.userinfo_endpoint, headers={"Authorization": authorization}, timeout_s=FETCH_TIMEOUT_S)
            return add_user_claims(identity, read_document(answer, "user info"))
        except TokenInvalid as invalid:
            self._report(invalid)
        except ProviderError as error:
            self._probe(Event(EventKind.ID_TOKEN_REFUSED, outcome="userinfo_" + error.code))
        return identity

    def _report(self, invalid: TokenInvalid) -> None:
        self._probe(Event(EventKind.ID_TOKEN_REFUSED, outcome=invalid.rule, fields={"why": invalid.detail}))
