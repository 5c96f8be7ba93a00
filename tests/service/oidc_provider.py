"""Plays a provider of OpenID Connect."""

import contextlib
import time
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any, Self
from urllib.parse import unquote_plus

from aiohttp import web
from aiohttp.test_utils import TestServer
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "firmtrail", "the client's secret"


class Provider:
    """Publishes a configuration and keys, and gives a token for each code that it gave out."""

    def __init__(self) -> None:
        self.issuer = ""
        self.key = RSAKey.generate_key(2048, {"kid": "1"})
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {"alg": "RS256", "kid": "1"}
        self.signing: Any = self.key
        self.is_away = False
        self.begun: dict[str, str] = {}

    def app(self) -> web.Application:
        served = web.Application()
        served.router.add_get("/.well-known/openid-configuration", self.configuration)
        served.router.add_get("/keys", self.keys)
        served.router.add_post("/token", self.token)
        return served

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        """Serves it on loopback."""
        server = TestServer(self.app())
        await server.start_server()
        self.issuer = str(server.make_url("")).rstrip("/")
        yield self
        await server.close()

    async def configuration(self, _request: web.Request) -> web.Response:
        if self.is_away:
            return web.Response(status=503)
        endpoints = {
            "authorization_endpoint": f"{self.issuer}/authorize?tenant=1",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }
        return web.json_response({"issuer": self.issuer, **endpoints})

    async def keys(self, _request: web.Request) -> web.Response:
        return web.json_response({"keys": [self.key.as_dict(private=False)]})

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        text = b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
        is_known = [unquote_plus(each) for each in text.split(":")] == [CLIENT, SECRET]
        challenge = create_s256_code_challenge(str(form["code_verifier"]))
        is_bound = challenge == self.begun["code_challenge"]
        is_same = form["redirect_uri"] == self.begun["redirect_uri"]
        if not (is_known and is_bound and is_same and form["code"] == "a-code"):
            return web.json_response({"error": "invalid_grant"}, status=400)
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "4711",
            "iat": int(time.time()),
            "exp": int(time.time()) + 60,
            "nonce": self.begun["nonce"],
            "email": "Admin@example.org",
            "email_verified": True,
        } | self.claims
        claims = {name: value for name, value in claims.items() if value is not None}
        token = jwt.encode(self.header, claims, self.signing, algorithms=["RS256", "HS256"])
        return web.json_response({"id_token": token, "access_token": "x", "token_type": "Bearer"})
