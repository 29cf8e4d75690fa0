"""Headend tokens of another issuer, whose public keys come in a JWKS file; and what must never open the door.
Tokens are signed by the openssl command."""
import base64
import hashlib
import hmac
import json
import subprocess
import time

import pytest

from harness import wait_until


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *arguments], input=data, capture_output=True, timeout=60, check=True).stdout


class Issuer:
    """An RSA key and the tokens that it signs."""

    def __init__(self, folder, kid):
        self.kid = kid
        self.key = folder / f"{kid}.pem"
        self.key.write_bytes(openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"))
        modulus = openssl("rsa", "-in", str(self.key), "-noout", "-modulus").decode().strip().split("=")[1]
        self.jwk = {"kty": "RSA", "kid": kid, "alg": "RS256", "use": "sig", "n": b64(bytes.fromhex(modulus)),
                    "e": b64(b"\x01\x00\x01")}
        self.public_pem = openssl("rsa", "-in", str(self.key), "-pubout")

    def signing_input(self, header=None, **claims):
        header = {"alg": "RS256", "typ": "JWT", "kid": self.kid, **(header or {})}
        claims = {"sub": "h1", "exp": int(time.time()) + 3600, **claims}
        return ".".join(b64(json.dumps({k: v for k, v in part.items() if v is not None}).encode())
                        for part in (header, claims))

    def token(self, header=None, **claims):
        text = self.signing_input(header, **claims)
        return text + "." + b64(openssl("dgst", "-sha256", "-sign", str(self.key), data=text.encode()))


@pytest.fixture(scope="module")
def fleet(make_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jwks")
    issuer = Issuer(folder, "key-1")
    jwks = folder / "jwks.json"
    jwks.write_text(json.dumps({"keys": [issuer.jwk]}))
    cluster = make_cluster(ingestd_options=["--jwks-file", str(jwks)])
    for name in ("h1", "h2"):
        cluster.own_token = cluster.add_headend(name)
    cluster.issuer, cluster.jwks, cluster.folder_of_keys = issuer, jwks, folder
    return cluster


def status(fleet, token, headend="h1"):
    return fleet.post_headend(headend, token, {"metrics": {"cpu_usage": 1}}).status_code


def test_a_token_of_the_other_issuer_opens_its_headends_path_only(fleet):
    token = fleet.issuer.token()
    assert status(fleet, token) == 200
    assert status(fleet, token) == 200  # from the cache now
    assert status(fleet, token, "h2") == 403


def test_our_own_tokens_still_work(fleet):
    assert status(fleet, fleet.own_token, "h2") == 200


def test_a_subject_that_is_not_registered_is_404(fleet):
    assert status(fleet, fleet.issuer.token(sub="h9"), "h9") == 404


def now():
    return int(time.time())


# Clocks may differ by a minute: what is over for longer is refused.
REFUSED = {
    "expired": lambda i: i.token(exp=now() - 120),
    "no expiry": lambda i: i.token(exp=None),
    "expiry is a text": lambda i: i.token(exp=str(now() + 60)),
    "not yet valid": lambda i: i.token(nbf=now() + 600),
    "no subject": lambda i: i.token(sub=None),
    "subject is a number": lambda i: i.token(sub=1),
    "unknown key": lambda i: i.token({"kid": "key-9"}),
    "no key id": lambda i: i.token({"kid": None}),
    "critical extension": lambda i: i.token({"crit": ["exp"]}),
    "embedded key": lambda i: i.token({"jwk": i.jwk}),
    "key from a URL": lambda i: i.token({"jku": "http://127.0.0.1/jwks.json"}),
    "certificate from a URL": lambda i: i.token({"x5u": "http://127.0.0.1/cert.pem"}),
    "another algorithm than the key's": lambda i: i.token({"alg": "RS512"}),
    "none": lambda i: i.signing_input({"alg": "none"}) + ".",
    "None": lambda i: i.signing_input({"alg": "None"}) + ".",
    "no signature": lambda i: i.signing_input() + ".",
    "two parts": lambda i: i.signing_input(),
    "four parts": lambda i: i.token() + ".x",
    "signature of another text": lambda i: i.signing_input(sub="h1", x=1) + "." + i.token().split(".")[2],
    "padded": lambda i: i.token() + "=",
    "garbage": lambda i: "a.b.c",
    "very long": lambda i: i.token(x="y" * 7000),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(fleet, name):
    response = fleet.post_headend("h1", REFUSED[name](fleet.issuer), {})
    assert response.status_code == 401, f"{response.status_code} {response.text}"
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_public_key_is_no_shared_secret(fleet):
    text = fleet.issuer.signing_input({"alg": "HS256"})
    for secret in (fleet.issuer.public_pem, fleet.issuer.jwk["n"].encode(), b""):
        forged = text + "." + b64(hmac.new(secret, text.encode(), hashlib.sha256).digest())
        assert status(fleet, forged) == 401


def test_keys_are_rotated_by_reloading_the_file(fleet):
    old, new = fleet.issuer, Issuer(fleet.folder_of_keys, "key-2")
    assert status(fleet, new.token()) == 401
    fleet.jwks.write_text(json.dumps({"keys": [old.jwk, new.jwk]}))
    fleet.ingestd.reload()
    wait_until(lambda: status(fleet, new.token()) == 200, "the new key is known")
    assert status(fleet, old.token()) == 200
    fleet.jwks.write_text(json.dumps({"keys": [new.jwk]}))
    fleet.ingestd.reload()
    wait_until(lambda: status(fleet, old.token()) == 401, "the old key is gone")
    assert status(fleet, new.token()) == 200
    fleet.jwks.write_text("{broken")
    fleet.ingestd.reload()
    wait_until(lambda: "event=reload_failed" in fleet.ingestd.log(), "it says that the file is broken")
    assert status(fleet, new.token()) == 200  # and keeps what it had
