"""Tokens that must never open a door: each is tried at every door that takes headends' tokens, comes from an address of its
own (wrong ones slow their address down), and right after it the good token of the same key is let in from there."""
import base64
import hashlib
import hmac
import http.client
import json
import re
import time

import pytest

from harness import DEADLINE, own_address, wait_until
from sp import RpcError
from tokens import EcIssuer, RsaIssuer, as_bytes, b64

ISSUER, AUDIENCE = "https://issuer.example.org", "metrics"
P256_ORDER = int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16)
MAX_TOKEN_BYTES = 8192


@pytest.fixture(scope="module")
def fleet(make_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    theirs = {"iss": ISSUER, "aud": AUDIENCE}
    keys = {"ours": EcIssuer(folder, None, {"iss": "tobogganing", "aud": "tobogganing"}),
            "ec": EcIssuer(folder, "ec", theirs), "rsa": RsaIssuer(folder, "rsa", theirs),
            "p384": EcIssuer(folder, "p384", theirs, alg="ES384"),
            "attacker": EcIssuer(folder, "attacker", theirs), "attacker-rsa": RsaIssuer(folder, "attacker-rsa", theirs)}
    jwks = folder / "jwks.json"
    jwks.write_text(json.dumps({"keys": [keys[name].jwk for name in ("ec", "rsa", "p384")]}))
    cluster = make_cluster(start=False, ingestd_options=["--jwks-file", str(jwks), "--jwks-issuer", ISSUER,
                                                         "--jwks-audience", AUDIENCE])
    # The key of an earlier version, which is imported at the first start: so we know what our own issuer's key is.
    cluster.state_dir.mkdir(mode=0o700, exist_ok=True)
    old_key = cluster.state_dir / "issuer-key.jwk"
    old_key.write_text(json.dumps(keys["ours"].private_jwk))
    old_key.chmod(0o600)
    cluster.start()
    assert not old_key.exists()
    cluster.add_cluster("k1")
    for name in ("h1", "h2"):
        cluster.add_headend(name, cluster="k1")
    cluster.keys = keys
    cluster.tally = {"success": 0, "failure": 0, "admin": 0}
    return cluster


# --- doors: each returns the canonical code that the caller got ---

HTTP_CODES = {200: "OK", 400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}


def over_http(fleet, path, token, body, address):
    connection = http.client.HTTPConnection("127.0.0.1", fleet.ports["gateway"], timeout=DEADLINE,
                                            source_address=(address, 0))
    header = b"Bearer " + (token if isinstance(token, bytes) else token.encode())
    connection.request("POST", path, json.dumps(body), {"Authorization": header, "Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    if response.status == 401:
        assert response.headers["WWW-Authenticate"].startswith("Bearer"), response.headers
    assert token.strip() not in text if isinstance(token, str) and len(token) > 8 else True, "the answer repeats the token"
    return HTTP_CODES[response.status]


def report_over_http(fleet, token, address, headend="h1"):
    return over_http(fleet, f"/api/v1/headends/{headend}/metrics", token, {"metrics": {"cpu_usage": 1}}, address)


def heartbeat_over_http(fleet, token, address, _headend="h1"):
    return over_http(fleet, "/api/v1/clusters/k1/heartbeat", token, {"client_count": 1}, address)


def submit(fleet, token, address, headend="h1"):
    return fleet.submit_one(token, headend=headend, source=address)


def heartbeat(fleet, token, address, _headend="h1"):
    request = fleet.pb.registry.HeartbeatClusterRequest(cluster_id="k1", client_count=1)
    with fleet.rpc(bearer=token, source=address) as rpc:
        try:
            rpc.call("/tobogganing.v1.Registry/HeartbeatCluster", request, fleet.pb.registry.Cluster)
        except RpcError as error:
            assert error.response.retry_after_ms == 0 and (len(token) < 8 or token not in error.message)
            return error.code
    return "OK"


DOORS = {"report by HTTP": report_over_http, "heartbeat by HTTP": heartbeat_over_http, "Submit": submit,
         "HeartbeatCluster": heartbeat}


# --- the table: what an attacker makes of a key's tokens ---

def now():
    return int(time.time())


def none(key, alg, signature=""):
    return key.signing_input({"alg": alg}) + "." + signature


def hmac_with(secret):
    return lambda data: hmac.new(secret, data, hashlib.sha256).digest()


def number_pair(r, s):
    return lambda _: r.to_bytes(32, "big") + s.to_bytes(32, "big")


def signature_with(key, wanted):
    """A good token whose signature holds one of the characters; ECDSA's are random."""
    while True:
        token = key.token()
        if any(c in token.rsplit(".", 1)[1] for c in wanted):
            return token


def respell(token, part, spell):
    parts = token.split(".")
    parts[part] = spell(parts[part])
    return ".".join(parts)


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def trailing_bits(text):
    """Another spelling of the same bytes: the last character's unused bits are set."""
    unused = {2: 15, 3: 3}[len(text) % 4]
    other = text[:-1] + ALPHABET[ALPHABET.index(text[-1]) | unused]
    assert other != text and base64.urlsafe_b64decode(other + "==") == base64.urlsafe_b64decode(text + "==")
    return other


def unaligned(key):
    """A good token whose every part leaves bits over in its last character."""
    for pad in range(12):
        token = key.token({"x": "x" * (pad % 3)}, y="y" * (pad // 3))
        if all(len(part) % 4 for part in token.split(".")):
            return token
    raise AssertionError


def padded_to(key, size):
    """A good token of exactly so many bytes."""
    for x in range(4):
        low, high = 0, size
        while low <= high:
            middle = (low + high) // 2
            n = len(key.token({"x": "x" * x}, y="y" * middle))
            if n == size:
                return key.token({"x": "x" * x}, y="y" * middle)
            low, high = (middle + 1, high) if n < size else (low, middle - 1)
    raise AssertionError(size)


def der(key):
    return lambda data: key.digest(data, "sha256")


def any_kid(kid):
    return lambda k, _: k.token({"kid": kid})


def claims(**changed):
    return lambda k, _: k.token(**changed)


def with_raw(text):
    return lambda k, _: k.token(raw=text)


GOOD = {"ours": lambda keys: keys["ours"].token(), "ec": lambda keys: keys["ec"].token(),
        "rsa": lambda keys: keys["rsa"].token(), "p384": lambda keys: keys["p384"].token()}

# name: (whose token, how it is made of that key and of all)
ATTACKS = {
    # algorithms
    **{f"alg {alg or 'empty'}, no signature": ("ours", lambda k, _, alg=alg: none(k, alg))
       for alg in ("none", "None", "nOnE", "NONE", "")},
    "alg none with a good signature": ("ours", lambda k, _: k.token({"alg": "none"})),
    "alg none, RSA key": ("rsa", lambda k, _: none(k, "none")),
    "alg missing": ("ours", lambda k, _: k.token({"alg": None})),
    "alg a number": ("ours", lambda k, _: k.token({"alg": 256})),
    "alg an array": ("ours", lambda k, _: k.token({"alg": ["ES256", "none"]})),
    "alg in lower case": ("ours", lambda k, _: k.token({"alg": "es256"})),
    "alg with a NUL": ("ours", lambda k, _: k.token({"alg": "ES256\0"})),
    **{f"HS256 with the public key as secret: {form}": ("rsa", lambda k, _, form=form: k.token(
        {"alg": "HS256"}, hmac_with({"PEM": k.public_pem, "DER": k.public_der, "PEM stripped": k.public_pem.strip(),
                                     "JWK": json.dumps(k.jwk).encode(), "modulus": k.jwk["n"].encode(), "empty": b""}[form])))
       for form in ("PEM", "DER", "PEM stripped", "JWK", "modulus", "empty")},
    "HS256 with the public EC key as secret": ("ours", lambda k, _: k.token({"alg": "HS256"}, hmac_with(k.public_pem))),
    "HS256, the header says nothing of it": ("ours", lambda k, _: k.token(signer=hmac_with(k.public_pem))),
    "RS256 on an EC key": ("ec", lambda k, keys: k.token({"alg": "RS256"}, keys["rsa"].sign)),
    "RS256 header, EC signature": ("ec", lambda k, _: k.token({"alg": "RS256"})),
    "ES256 on an RSA key": ("rsa", lambda k, keys: k.token({"alg": "ES256"}, keys["ec"].sign)),
    "RS512 on an RS256 key": ("rsa", lambda k, _: k.token({"alg": "RS512"}, lambda data: k.digest(data, "sha512"))),
    "PS256 on an RS256 key": ("rsa", lambda k, _: k.token(
        {"alg": "PS256"}, lambda data: k.digest(data, "sha256", "-sigopt", "rsa_padding_mode:pss"))),
    "RS256 header, PSS signature": ("rsa", lambda k, _: k.token(
        signer=lambda data: k.digest(data, "sha256", "-sigopt", "rsa_padding_mode:pss"))),
    "ES384 on a P-256 key": ("ec", lambda k, keys: k.token({"alg": "ES384"}, keys["p384"].sign)),
    "ES384 header, ES256 signature": ("ec", lambda k, _: k.token({"alg": "ES384"})),
    "ES256 on a P-384 key": ("p384", lambda k, keys: k.token({"alg": "ES256"}, keys["ec"].sign)),
    "ES256K": ("ec", lambda k, _: k.token({"alg": "ES256K"})),
    "EdDSA": ("ec", lambda k, _: k.token({"alg": "EdDSA"})),
    # parts
    "empty signature": ("ours", lambda k, _: k.signing_input() + "."),
    "signature missing": ("ours", lambda k, _: k.signing_input()),
    "header only": ("ours", lambda k, _: k.token().split(".")[0]),
    "one more part": ("ours", lambda k, _: k.token() + "." + b64(b"more")),
    "one more part, empty": ("ours", lambda k, _: k.token() + "."),
    "five parts, as a JWE has": ("ours", lambda k, _: k.token() + ".AA.AA"),
    "header empty": ("ours", lambda k, _: respell(k.token(), 0, lambda _: "")),
    "claims empty": ("ours", lambda k, _: respell(k.token(), 1, lambda _: "")),
    "dots": ("ours", lambda _k, _: ".."),
    "nothing": ("ours", lambda _k, _: " "),
    "an API key": ("ours", lambda _k, _: "tobk_" + "A" * 43),
    "garbage": ("ours", lambda _k, _: "a.b.c"),
    # signatures
    "of another token": ("ours", lambda k, _: k.signing_input(sub="h1", x=1) + "." + k.token().split(".")[2]),
    "of an attacker's key": ("ours", lambda k, keys: k.token(signer=keys["attacker"].sign)),
    "of an attacker's RSA key": ("rsa", lambda k, keys: k.token(signer=keys["attacker-rsa"].sign)),
    "of another key of ours": ("ours", lambda k, keys: k.token(signer=keys["ec"].sign)),
    "63 bytes": ("ec", lambda k, _: k.token(signer=lambda data: k.sign(data)[:63])),
    "65 bytes": ("ec", lambda k, _: k.token(signer=lambda data: k.sign(data) + b"\0")),
    "66 bytes, both numbers with a zero before": ("ec", lambda k, _: k.token(
        signer=lambda data: (lambda raw: b"\0" + raw[:32] + b"\0" + raw[32:])(k.sign(data)))),
    "1 byte": ("ec", lambda k, _: k.token(signer=lambda _: b"\1")),
    "255 bytes on an RSA key": ("rsa", lambda k, _: k.token(signer=lambda data: k.sign(data)[:255])),
    "257 bytes on an RSA key": ("rsa", lambda k, _: k.token(signer=lambda data: b"\0" + k.sign(data))),
    "zeros on an RSA key": ("rsa", lambda k, _: k.token(signer=lambda _: bytes(256))),
    "DER": ("ec", lambda k, _: k.token(signer=der(k))),
    "r and s zero": ("ec", lambda k, _: k.token(signer=number_pair(0, 0))),
    "r zero": ("ours", lambda k, _: k.token(signer=number_pair(0, 1))),
    "s zero": ("ours", lambda k, _: k.token(signer=number_pair(1, 0))),
    "r and s one": ("ours", lambda k, _: k.token(signer=number_pair(1, 1))),
    "r = n": ("ours", lambda k, _: k.token(signer=number_pair(P256_ORDER, 1))),
    "r = s = n": ("ours", lambda k, _: k.token(signer=number_pair(P256_ORDER, P256_ORDER))),
    "r > n": ("ours", lambda k, _: k.token(signer=number_pair(2**256 - 1, 2**256 - 1))),
    "r and s swapped": ("ours", lambda k, _: k.token(signer=lambda data: (lambda raw: raw[32:] + raw[:32])(k.sign(data)))),
    "r negated": ("ours", lambda k, _: k.token(
        signer=lambda data: (lambda raw: (P256_ORDER - int.from_bytes(raw[:32], "big")).to_bytes(32, "big") + raw[32:])(
            k.sign(data)))),
    # headers
    "jwk of the attacker's": ("ours", lambda k, keys: k.token({"jwk": keys["attacker"].jwk}, keys["attacker"].sign)),
    "jwk of the attacker's, without kid": ("ours", lambda k, keys: k.token({"jwk": keys["attacker"].jwk, "kid": None},
                                                                          keys["attacker"].sign)),
    "jwk of the right key": ("ec", lambda k, _: k.token({"jwk": k.jwk})),
    "jku": ("ec", lambda k, _: k.token({"jku": "http://127.0.0.1:1/jwks.json"})),
    "x5u": ("ec", lambda k, _: k.token({"x5u": "http://127.0.0.1:1/cert.pem"})),
    "x5c": ("ec", lambda k, _: k.token({"x5c": [base64.b64encode(k.public_der).decode()]})),
    "crit": ("ec", lambda k, _: k.token({"crit": ["exp"]})),
    "crit, empty": ("ec", lambda k, _: k.token({"crit": []})),
    "crit that is not known": ("ec", lambda k, _: k.token({"crit": ["x"], "x": True})),
    "b64 false": ("ec", lambda k, _: k.token({"b64": False, "crit": ["b64"]})),
    "zip": ("ec", lambda k, _: k.token({"zip": "DEF"})),
    "typ JWE": ("ec", lambda k, _: k.token({"typ": "JWE"})),
    "typ a number": ("ec", lambda k, _: k.token({"typ": 7})),
    "kid that is not known": ("ec", any_kid("nobody")),
    "kid of an attacker's key": ("attacker", lambda k, _: k.token()),
    "no kid": ("ec", any_kid(None)),
    "kid empty": ("ec", any_kid("")),
    "kid a number": ("ec", any_kid(0)),
    "kid an array": ("ec", any_kid(["ec"])),
    "kid as SQL": ("ours", any_kid("' OR '1'='1")),
    "kid as SQL, of a key that is there": ("ec", any_kid("ec'; DROP TABLE signing_keys; --")),
    "kid as a union": ("ec", any_kid("x' UNION SELECT 'AAAA")),
    "kid as a path": ("ec", any_kid("../../../../../dev/null")),
    "kid as a path with the null file's secret": ("ec", lambda k, _: k.token(
        {"alg": "HS256", "kid": "../../../../../dev/null"}, hmac_with(b""))),
    "kid as a command": ("ec", any_kid("| touch pwned")),
    "kid with a NUL": ("ec", any_kid("ec\0x")),
    "kid of 257 bytes": ("ec", any_kid("k" * 257)),
    "kid in another case": ("ec", any_kid("EC")),
    "duplicate alg": ("ec", lambda k, _: k.token('{"alg":"none","alg":"ES256","kid":"ec"}')),
    "duplicate kid": ("ec", lambda k, _: k.token('{"alg":"ES256","kid":"nobody","kid":"ec"}')),
    "header an array": ("ec", lambda k, _: k.token([{"alg": "ES256", "kid": "ec"}])),
    "header a text": ("ec", lambda k, _: k.token('"ES256"')),
    "header null": ("ec", lambda k, _: k.token("null")),
    "header no JSON": ("ec", lambda k, _: k.token('{"alg":"ES256","kid":"ec"')),
    "header with something after": ("ec", lambda k, _: k.token('{"alg":"ES256","kid":"ec"} x')),
    "header with a byte order mark": ("ec", lambda k, _: k.token('\ufeff{"alg":"ES256","kid":"ec"}')),
    "header in UTF-16": ("ec", lambda k, _: k.token('{"alg":"ES256","kid":"ec"}'.encode("utf-16"))),
    "header nested": ("ec", lambda k, _: k.token('{"alg":"ES256","kid":"ec","x":' + "[" * 2800 + "]" * 2800 + "}")),
    # times
    "exp missing": ("ours", claims(exp=None)),
    "exp past": ("ours", lambda k, _: k.token(exp=now() - 120)),
    "exp zero": ("ours", claims(exp=0)),
    "exp negative": ("ours", claims(exp=-1)),
    "exp very negative": ("ours", claims(exp=-2**63)),
    "exp a fraction": ("ours", lambda k, _: k.token(exp=now() + 60.5)),
    "exp with an exponent": ("ours", lambda k, _: k.token(raw=json.dumps(k.body(exp=7)).replace("7", "4e9", 1))),
    "exp a text": ("ours", lambda k, _: k.token(exp=str(now() + 60))),
    "exp true": ("ours", claims(exp=True)),
    "exp an array": ("ours", lambda k, _: k.token(exp=[now() + 60])),
    "exp 2^63": ("ours", claims(exp=2**63)),
    "exp 2^64": ("ours", claims(exp=2**64)),
    "exp of 400 digits": ("ours", claims(exp=10**400)),
    "exp 1e400": ("ours", lambda k, _: k.token(raw=json.dumps(k.body(exp=7)).replace("7", "1e400", 1))),
    "nbf in the future": ("ours", lambda k, _: k.token(nbf=now() + 600)),
    "nbf a fraction": ("ours", claims(nbf=1.5)),
    "nbf a text": ("ours", claims(nbf="0")),
    "iat in the future": ("ours", lambda k, _: k.token(iat=now() + 600)),
    "iat a text": ("ours", claims(iat="0")),
    # who issued it, for whom, and whose it is
    "iss missing, our key": ("ours", claims(iss=None)),
    "iss of somebody else, our key": ("ours", claims(iss=ISSUER)),
    "iss missing": ("ec", claims(iss=None)),
    "iss ours, their key": ("ec", claims(iss="tobogganing")),
    "iss almost": ("ec", claims(iss=ISSUER + "/")),
    "iss an array": ("ec", claims(iss=[ISSUER])),
    "aud of somebody else, our key": ("ours", claims(aud="metrics")),
    "aud missing": ("ec", claims(aud=None)),
    "aud of somebody else": ("ec", claims(aud="tobogganing")),
    "aud an array without us": ("ec", claims(aud=["a", "b"])),
    "aud an empty array": ("ec", claims(aud=[])),
    "aud an object": ("ec", claims(aud={AUDIENCE: True})),
    "aud an array with a number": ("ec", claims(aud=[AUDIENCE, 7])),
    "aud with us inside": ("ec", claims(aud=AUDIENCE + "-not")),
    "sub missing": ("ours", claims(sub=None)),
    "sub empty": ("ours", claims(sub="")),
    "sub a number": ("ours", claims(sub=1)),
    "sub an array": ("ours", claims(sub=["h1"])),
    "sub with a slash": ("ours", claims(sub="h1/../h2")),
    "sub with a blank": ("ours", claims(sub="h1 ")),
    "sub with a NUL": ("ours", claims(sub="h1\0")),
    "sub with a line end": ("ours", claims(sub="h1\n")),
    "sub as SQL": ("ours", claims(sub="h1' OR '1'='1")),
    "sub of 129 bytes": ("ours", claims(sub="h" * 129)),
    # claims
    "duplicate sub": ("ours", lambda k, _: k.token(raw=json.dumps(k.body())[:-1] + ', "sub": "h1"}')),
    "duplicate exp": ("ours", lambda k, _: k.token(raw='{"exp": 1, ' + json.dumps(k.body())[1:])),
    "claims an array": ("ours", lambda k, _: k.token(raw=json.dumps([k.body()]))),
    "claims a text": ("ours", with_raw('"h1"')),
    "claims null": ("ours", with_raw("null")),
    "claims no JSON": ("ours", with_raw("sub=h1&exp=9999999999")),
    "claims with something after": ("ours", lambda k, _: k.token(raw=json.dumps(k.body()) + "{}")),
    "claims in bad UTF-8": ("ours", lambda k, _: k.token(raw=json.dumps(k.body(x="y")).encode().replace(b"y", b"\xff"))),
    "claims nested": ("ours", lambda k, _: k.token(raw=json.dumps(k.body())[:-1] + ', "x": ' + "[" * 2700 + "]" * 2700 + "}")),
    "claims that are never closed": ("ours", with_raw("[" * 5500)),
    # spelling
    "padded signature": ("ec", lambda k, _: k.token() + "=="),
    "padded header": ("ec", lambda k, _: respell(unaligned(k), 0, lambda part: part + "=")),
    "padded claims": ("ec", lambda k, _: respell(unaligned(k), 1, lambda part: part + "=" * (-len(part) % 4))),
    "+ for -": ("ec", lambda k, _: respell(signature_with(k, "-"), 2, lambda part: part.replace("-", "+"))),
    "/ for _": ("ec", lambda k, _: respell(signature_with(k, "_"), 2, lambda part: part.replace("_", "/"))),
    "trailing bits in the signature": ("ec", lambda k, _: respell(k.token(), 2, trailing_bits)),
    "trailing bits in the header": ("ec", lambda k, _: respell(unaligned(k), 0, trailing_bits)),
    "trailing bits in the claims": ("ec", lambda k, _: respell(unaligned(k), 1, trailing_bits)),
    "a blank inside": ("ec", lambda k, _: respell(k.token(), 1, lambda part: part[:4] + " " + part[4:])),
    "a tab inside": ("ec", lambda k, _: respell(k.token(), 1, lambda part: part[:4] + "\t" + part[4:])),
    "a blank before the signature": ("ec", lambda k, _: respell(k.token(), 2, lambda part: " " + part)),
    "percent-encoded": ("ec", lambda k, _: k.token().replace(".", "%2E")),
    "twice Bearer": ("ec", lambda k, _: "Bearer " + k.token()),
    "quoted": ("ec", lambda k, _: '"' + k.token() + '"'),
    "two tokens": ("ec", lambda k, _: k.token() + "," + k.token()),
    "8 KiB and 1 byte": ("rsa", lambda k, _: padded_to(k, MAX_TOKEN_BYTES + 1)),
    "64 KiB": ("ours", lambda k, _: "e30." + "A" * 65536 + ".AAAA"),
    # bytes that no token has; HTTP may refuse the whole request
    "control byte": ("ec", lambda k, _: respell(k.token(), 2, lambda part: "\x01" + part)),
    "DEL": ("ec", lambda k, _: respell(k.token(), 2, lambda part: part + "\x7f.")),
    "not ASCII": ("ec", lambda k, _: respell(k.token(), 2, lambda part: part + "é")),
}
NOT_HTTP = {"64 KiB"}  # the whole request is refused
MAYBE_BAD_REQUEST = {"control byte", "DEL", "not ASCII"}


def kind(door, token):
    """As what a refusal is counted: what has not the form of a JWT is a wrong admin token where that would do too. What has
    not even that of a bearer token (RFC 6750 §2.1), or is too long for one, the gateway refuses by itself."""
    if door.endswith("HTTP") and not re.fullmatch(f"[A-Za-z0-9._~+/=-]{{1,{MAX_TOKEN_BYTES}}}", token):
        return "admin" if door.lower().startswith("heartbeat") else "failure"
    return "admin" if door.lower().startswith("heartbeat") and token.count(".") != 2 else "failure"


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_at_every_door(fleet, name):
    whose, make = ATTACKS[name]
    good = GOOD.get(whose, GOOD["ec"])(fleet.keys)
    token = make(fleet.keys[whose], fleet.keys)
    for door, knock in DOORS.items():
        by_http = door.endswith("HTTP")
        if by_http and name in NOT_HTTP:
            continue
        address = own_address()
        for attempt in ("first", "second"):  # nothing of a refused token is remembered
            code = knock(fleet, token, address)
            assert code == "UNAUTHENTICATED" or (by_http and name in MAYBE_BAD_REQUEST and code == "INVALID_ARGUMENT"), \
                f"{door}, {attempt} attempt: {code}"
            if code == "UNAUTHENTICATED":
                fleet.tally[kind(door, token)] += 1
        assert knock(fleet, good, address) == "OK", f"{door}: the good token is refused"
        fleet.tally["success"] += 1


@pytest.mark.parametrize("whose", GOOD)
def test_the_good_token_of_every_key_opens_every_door(fleet, whose):
    for knock in DOORS.values():
        for _ in range(2):
            assert knock(fleet, GOOD[whose](fleet.keys), own_address()) == "OK"
            fleet.tally["success"] += 1


@pytest.mark.parametrize("header", [{}, {"typ": None}, {"typ": "at+jwt"}, {"x": [{"y": 1}]}])
def test_a_header_with_nothing_that_matters_is_no_attack(fleet, header):
    assert submit(fleet, fleet.keys["ec"].token(header), own_address()) == "OK"
    fleet.tally["success"] += 1


def test_a_token_of_8_kib_is_accepted(fleet):
    token = padded_to(fleet.keys["rsa"], MAX_TOKEN_BYTES)
    for knock in (report_over_http, submit):
        assert knock(fleet, token, own_address()) == "OK"
        fleet.tally["success"] += 1


def test_an_audience_among_others_is_accepted(fleet):
    for knock in (report_over_http, submit):
        assert knock(fleet, fleet.keys["ec"].token(aud=["a", AUDIENCE]), own_address()) == "OK"
        fleet.tally["success"] += 1


def test_a_token_of_another_headend_is_forbidden(fleet):
    for key in ("ours", "ec"):
        token = fleet.keys[key].token(sub="h2")
        address = own_address()
        for knock in (report_over_http, submit):
            assert knock(fleet, token, address, "h1") == "PERMISSION_DENIED"
            assert knock(fleet, token, address, "h2") == "OK"
            fleet.tally["failure"] += 1
            fleet.tally["success"] += 1


def test_a_headend_that_nobody_registered_is_not_found(fleet):
    for knock in (report_over_http, submit):
        assert knock(fleet, fleet.keys["ec"].token(sub="h9"), own_address(), "h9") == "NOT_FOUND"
        fleet.tally["failure"] += 1


def test_what_is_no_string_of_utf_8_is_refused_by_http(fleet):
    token = as_bytes(fleet.keys["ec"].token()) + b"\xff\xfe"
    assert report_over_http(fleet, token, own_address()) in ("INVALID_ARGUMENT", "UNAUTHENTICATED")
    fleet.tally["failure"] += 1


def test_every_attempt_was_counted(fleet):
    """The last one: what all of the above add up to. (Attempts that HTTP refuses as a whole never get to the door.)"""
    def counted(result, kind="jwt"):
        return fleet.attempts(kind, result)
    wait_until(lambda: counted("success") >= fleet.tally["success"], "all good tokens are counted")
    wait_until(lambda: counted("failure") >= fleet.tally["failure"], "all attacks are counted")
    assert counted("success") == fleet.tally["success"]
    wait_until(lambda: counted("failure", "admin") >= fleet.tally["admin"], "and those that could be an admin's")
    assert counted("failure") == fleet.tally["failure"] and counted("failure", "admin") == fleet.tally["admin"]
    assert counted("limited") == 0
    assert fleet.ingestd.running() and fleet.gateway.running()
    assert "level=error" not in fleet.ingestd.log()
