"""An issuer of access tokens on this machine, as OAuth knows them: metadata, keys, and a client that gets tokens with a secret."""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from certificates import Authority

#: The one client, and what it proves itself with.
CLIENT, SECRET = "agent", "the-secret-of-the-agent"


class Issuer:
    """Answers until it is closed. Over TLS its certificate is of an authority of its own, whose certificate is at `authority`."""

    def __init__(self, directory: Path | None = None) -> None:
        """With a directory it speaks TLS, and leaves its certificates there."""
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.kid = "one"
        #: Where it says that its keys are; none: where they are.
        self.keys_url: str | None = None
        #: How often it was asked for its keys.
        self.asked = 0
        #: What tokens were asked for, in the client's words.
        self.grants: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"issuer": self}))
        scheme = "http"
        if directory:
            scheme = "https"
            authority, served = Authority(directory), (directory / "issuer.pem", directory / "issuer.key")
            authority.identity().save(*served)
            self.authority = authority.file
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*served)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/realms/main"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Hangs up."""
        self._server.shutdown()
        self._server.server_close()

    def rotate(self) -> None:
        """A new key in the place of the old one."""
        self.key, self.kid = rsa.generate_private_key(public_exponent=65537, key_size=2048), self.kid + "+"

    def token(self, audience: str, scope: str, subject: str = "somebody", **more: Any) -> str:
        """A token, good for ten minutes unless it says otherwise."""
        claims = {"iss": self.url, "sub": subject, "aud": audience, "scope": scope, "exp": int(time.time()) + 600}
        return jwt.encode(claims | more, self.key, "RS256", {"kid": self.kid, "typ": "at+jwt"})

    def answer(self, path: str) -> dict[str, Any] | None:
        """A document."""
        base = self.url.removesuffix("/realms/main")
        match path:
            case "/.well-known/oauth-authorization-server/realms/main":
                return {
                    "issuer": self.url,
                    "authorization_endpoint": f"{base}/authorize",
                    "token_endpoint": f"{base}/token",
                    "jwks_uri": self.keys_url or f"{base}/keys",
                    "response_types_supported": ["code"],
                    "grant_types_supported": ["client_credentials"],
                    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                }
            case "/keys":
                self.asked += 1
                key = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
                return {"keys": [key | {"kid": self.kid, "use": "sig", "alg": "RS256"}]}
        return None

    def grant(self, authorization: str, form: dict[str, str]) -> dict[str, Any] | None:
        """A token for the client that has proven itself."""
        if authorization != "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode():
            return None
        self.grants.append(form)
        token = self.token(form["resource"], form["scope"], CLIENT)
        return {"access_token": token, "token_type": "Bearer", "expires_in": 600, "scope": form["scope"]}


class _Handler(BaseHTTPRequestHandler):
    issuer: Issuer

    def do_GET(self) -> None:  # noqa: N802, as the server calls it
        """A document, or none."""
        self._say(self.issuer.answer(self.path), 404)

    def do_POST(self) -> None:  # noqa: N802, as the server calls it
        """A token, or none."""
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
        granted = self.issuer.grant(self.headers.get("authorization", ""), form) if self.path == "/token" else None
        self._say(granted, 401)

    def _say(self, answer: dict[str, Any] | None, otherwise: int) -> None:
        body = json.dumps(answer).encode()
        self.send_response(otherwise if answer is None else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None:
        """Nothing."""
