"""Headend tokens (JWT, RFC 7519) as any other issuer would make them, and as no issuer would: signed by the openssl command."""
import base64
import hashlib
import json
import subprocess
import time


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *map(str, arguments)], input=data, capture_output=True, timeout=60, check=True).stdout


def as_bytes(part):
    """A part of a token: bytes as they are, a text in UTF-8, anything else as JSON; members that are None are left out."""
    if isinstance(part, dict):
        part = {name: value for name, value in part.items() if value is not None}
    if isinstance(part, bytes):
        return part
    return (part if isinstance(part, str) else json.dumps(part)).encode()


class Issuer:
    """A key and the tokens that it signs. `claims` are those that every good token of it has."""

    def __init__(self, folder, kid, alg, claims=None):
        self.kid, self.alg = kid, alg
        self.claims = {"sub": "h1", **(claims or {})}
        self.key = folder / f"{kid or 'key'}.pem"
        self._make_key()
        self.key.chmod(0o600)
        self.public_pem = openssl("pkey", "-in", str(self.key), "-pubout")
        self.public_der = openssl("pkey", "-in", str(self.key), "-pubout", "-outform", "DER")

    def sign(self, data):
        raise NotImplementedError

    def digest(self, data, name, *options):
        return openssl("dgst", f"-{name}", *options, "-sign", str(self.key), data=data)

    def header(self, **more):
        return {"alg": self.alg, "typ": "JWT", "kid": self.kid, **more}

    def body(self, **more):
        return {"exp": int(time.time()) + 3600, **self.claims, **more}

    def signing_input(self, header=None, **claims):
        """The first two parts. header: members that are other than usual (None: left out), or the whole of it."""
        whole = header if isinstance(header, (bytes, str, list)) else self.header(**(header or {}))
        return ".".join(b64(as_bytes(part)) for part in (whole, claims.pop("raw", None) or self.body(**claims)))

    def token(self, header=None, signer=None, **claims):
        """A token; `claims` are other than usual, or `raw`, the whole of them. signer: makes the signature."""
        text = self.signing_input(header, **claims)
        return text + "." + b64((signer or self.sign)(text.encode()))


class RsaIssuer(Issuer):
    def __init__(self, folder, kid, claims=None):
        super().__init__(folder, kid, "RS256", claims)
        modulus = openssl("rsa", "-in", str(self.key), "-noout", "-modulus").decode().strip().split("=")[1]
        self.jwk = {"kty": "RSA", "kid": kid, "alg": "RS256", "use": "sig", "n": b64(bytes.fromhex(modulus)),
                    "e": b64(b"\x01\x00\x01")}

    def _make_key(self):
        self.key.write_bytes(openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"))

    def sign(self, data):
        return self.digest(data, "sha256")


CURVES = {"ES256": ("P-256", 32, "sha256"), "ES384": ("P-384", 48, "sha384")}


def raw_signature(der, size):
    """r and s, each `size` bytes, of a DER signature."""
    numbers, at = [], 2
    for _ in range(2):
        n = der[at + 1]
        numbers.append(int.from_bytes(der[at + 2:at + 2 + n], "big"))
        at += 2 + n
    return b"".join(number.to_bytes(size, "big") for number in numbers)


class EcIssuer(Issuer):
    """kid None: the RFC 7638 thumbprint, which our own keys have."""

    def __init__(self, folder, kid, claims=None, alg="ES256"):
        super().__init__(folder, kid, alg, claims)
        point = self.public_der[-2 * self.size:]
        x, y = b64(point[:self.size]), b64(point[self.size:])
        if kid is None:
            canonical = f'{{"crv":"{self.curve}","kty":"EC","x":"{x}","y":"{y}"}}'
            self.kid = b64(hashlib.sha256(canonical.encode()).digest())
        self.jwk = {"kty": "EC", "crv": self.curve, "kid": self.kid, "alg": alg, "use": "sig", "x": x, "y": y}

    def _make_key(self):
        self.curve, self.size, self.hash = CURVES[self.alg]
        self.key.write_bytes(openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{self.curve}"))

    @property
    def private_jwk(self):
        der = openssl("pkey", "-in", str(self.key), "-traditional", "-outform", "DER")
        at = der.index(b"\x02\x01\x01\x04" + bytes([self.size])) + 5  # RFC 5915: version 1, then the private key
        return {**self.jwk, "d": b64(der[at:at + self.size])}

    def sign(self, data):
        return raw_signature(self.digest(data, self.hash), self.size)
