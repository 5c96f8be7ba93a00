"""Signs people in with an OpenID Connect provider: the code flow with PKCE (RFC 7636), a state and
a nonce.

The provider's configuration and keys are read when they are first needed, and again when they are
old or when a key is missing. The token is checked as OpenID Connect Core 1.0, 3.1.3.7
asks: signature, issuer, audience, expiry and nonce. A person is known by the address that the
provider has verified; an address without `email_verified` counts as nobody's.

Every request to the provider has a time limit and a bound on its answer. A provider that is away
raises `Unavailable`; an answer that is wrong raises `NotSignedIn`.
"""

import time
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

import msgspec
from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from yarl import URL

from firmtrail.config import Oidc
from firmtrail.database.database import Unavailable
from firmtrail.http.sessions import NotSignedIn

ANSWER_BYTES_MAX = 256 * 1024
TIMEOUT_S = 10
KEPT_S = 3600
RETRY_AFTER_S = 10
LEEWAY_S = 60
"""How far the provider's clock may differ."""

ALGORITHMS = ["RS256", "ES256", "EdDSA", "PS256", "RS384", "RS512", "ES384", "ES512"]
"""The signatures that are accepted: none with a shared secret, and not `none`."""


class Provider(msgspec.Struct, frozen=True):
    """Holds what a provider publishes of itself (OpenID Connect Discovery 1.0)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class TokenAnswer(msgspec.Struct, frozen=True):
    """Holds what the provider gives for a code."""

    id_token: str


def _only(audience: object) -> object:
    """Returns the client that a token is for, if it is for one alone."""
    match audience:
        case [one]:
            return one
        case list():
            return None
    return audience


class OidcSignIn:
    """Talks to one provider for one process."""

    def __init__(self, settings: Oidc) -> None:
        self._settings = settings
        self._provider: tuple[float, Provider] | None = None
        self._keys: tuple[float, KeySet] | None = None

    @property
    def issuer(self) -> str:
        return self._settings.issuer

    async def address(self, back: str, *, state: str, nonce: str, verifier: str) -> str:
        """Returns the address at the provider where the person signs in. From there the browser
        comes back to `back`."""
        provider = await self._discovered()
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": back,
            "scope": "openid email",
            "state": state,
            "nonce": nonce,
            "code_challenge": create_s256_code_challenge(verifier),
            "code_challenge_method": "S256",
        }
        return str(URL(provider.authorization_endpoint).update_query(query))

    async def email(self, code: str, back: str, *, nonce: str, verifier: str) -> str:
        """Returns the verified address of the person that the code stands for."""
        provider = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": back,
            "code_verifier": verifier,
        }
        body = await self._ask(provider.token_endpoint, form)
        try:
            answer = msgspec.json.decode(body, type=TokenAnswer)
        except msgspec.MsgspecError as error:
            raise NotSignedIn("the provider gave no id_token") from error
        return self._verified_email(await self._claims(answer.id_token, provider), nonce)

    async def _claims(self, id_token: str, provider: Provider) -> Mapping[str, Any]:
        """Returns the claims of a token with a valid signature."""
        try:
            return jwt.decode(id_token, await self._key_set(provider), ALGORITHMS).claims
        except (JoseError, ValueError):  # the provider may have a new key
            self._keys = None
        try:
            return jwt.decode(id_token, await self._key_set(provider), ALGORITHMS).claims
        except (JoseError, ValueError) as error:
            raise NotSignedIn(f"the id_token is not valid: {error}") from error

    def _verified_email(self, claims: Mapping[str, Any], nonce: str) -> str:
        client_id = self._settings.client_id
        checks = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": self._settings.issuer},
            aud={"essential": True, "value": client_id},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            checks.validate(dict(claims))
        except JoseError as error:
            raise NotSignedIn(f"the id_token is not valid: {error}") from error
        if claims.get("azp", _only(claims["aud"])) != client_id:
            raise NotSignedIn("the id_token is for another client")
        email = claims.get("email")
        if not isinstance(email, str) or claims.get("email_verified") is not True:
            raise NotSignedIn("the provider has not verified an e-mail address of this person")
        return email

    async def _discovered(self) -> Provider:
        if self._provider is not None and self._provider[0] > time.monotonic():
            return self._provider[1]
        base = self._settings.issuer.rstrip("/")
        body = await self._ask(f"{base}/.well-known/openid-configuration")
        try:
            provider = msgspec.json.decode(body, type=Provider)
        except msgspec.MsgspecError as error:
            raise Unavailable("the OpenID provider's configuration can't be read") from error
        if provider.issuer != self._settings.issuer:
            raise Unavailable("the OpenID provider names another issuer than --oidc-issuer")
        self._provider = (time.monotonic() + KEPT_S, provider)
        return provider

    async def _key_set(self, provider: Provider) -> KeySet:
        if self._keys is None or self._keys[0] <= time.monotonic():
            body = await self._ask(provider.jwks_uri)
            try:
                keys = KeySet.import_key_set(msgspec.json.decode(body))
            except (msgspec.MsgspecError, JoseError, KeyError, ValueError) as error:
                raise Unavailable("the OpenID provider's keys can't be read") from error
            self._keys = (time.monotonic() + KEPT_S, keys)
        return self._keys[1]

    async def _ask(self, url: str, form: Mapping[str, str] | None = None) -> bytes:
        """Returns the body of the provider's answer. Only a POST carries the client's secret."""
        settings = self._settings
        headers = {"Authorization": _basic(settings)} if form else {}
        method = "POST" if form else "GET"
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=TIMEOUT_S)) as client,
                client.request(
                    method, url, data=form, headers=headers, allow_redirects=False
                ) as answer,
            ):
                body = await _bounded(answer)
        except (ClientError, TimeoutError, OSError) as error:
            raise Unavailable("the OpenID provider does not answer", RETRY_AFTER_S) from error
        if form and 400 <= answer.status < 500:
            raise NotSignedIn("the provider does not accept the code")
        if answer.status != 200:
            raise Unavailable("the OpenID provider does not answer as it should", RETRY_AFTER_S)
        return body


def _basic(settings: Oidc) -> str:
    """Returns the client's credential (RFC 6749, 2.3.1: both parts are encoded as in a form)."""
    text = f"{quote_plus(settings.client_id)}:{quote_plus(settings.client_secret)}"
    return f"Basic {b64encode(text.encode()).decode()}"


async def _bounded(answer: ClientResponse) -> bytes:
    """Returns the body. Raises `Unavailable` if it is too long."""
    body = bytearray()
    async for chunk in answer.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise Unavailable("the OpenID provider's answer is too long", RETRY_AFTER_S)
    return bytes(body)
