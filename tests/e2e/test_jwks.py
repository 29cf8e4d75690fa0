"""Headend tokens of another issuer, whose public keys come in a JWKS file, and the life of our own signing keys. What must
never open the door is in test_jwt_attacks.py."""
import base64
import json
import time

import pytest

from harness import wait_until
from sp import RpcError
from tokens import RsaIssuer


@pytest.fixture(scope="module")
def fleet(make_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("jwks")
    issuer = RsaIssuer(folder, "key-1")
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


def test_keys_are_rotated_in_the_file(fleet):
    old, new = fleet.issuer, RsaIssuer(fleet.folder_of_keys, "key-2")
    assert status(fleet, new.token()) == 401
    fleet.jwks.write_text(json.dumps({"keys": [old.jwk, new.jwk]}))
    wait_until(lambda: status(fleet, new.token()) == 200, "the new key is known")
    assert status(fleet, old.token()) == 200
    fleet.jwks.write_text(json.dumps({"keys": [new.jwk]}))
    fleet.ingestd.reload()
    wait_until(lambda: status(fleet, old.token()) == 401, "the old key is gone")
    assert status(fleet, new.token()) == 200
    fleet.jwks.write_text("{broken")
    wait_until(lambda: "event=reload_failed" in fleet.ingestd.log(), "it says that the file is broken")
    assert status(fleet, new.token()) == 200  # and keeps what it had
    fleet.jwks.write_text(json.dumps({"keys": [new.jwk]}))


# --- our own keys ---

def keys_call(fleet, method, bearer="admin", **fields):
    pb = fleet.pb.signing_keys
    request, response = {"Rotate": (pb.RotateSigningKeyRequest, pb.SigningKey),
                         "List": (pb.ListSigningKeysRequest, pb.ListSigningKeysResponse),
                         "Revoke": (pb.SigningKeyId, pb.SigningKey), "GetJwks": (pb.GetJwksRequest, pb.Jwks)}[method]
    with fleet.rpc(bearer=fleet.admin_token if bearer == "admin" else bearer) as rpc:
        return rpc.call(f"/tobogganing.v1.SigningKeys/{method}", request(**fields), response)


def kid_of(token):
    header = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"]


def published(fleet):
    """The public keys as the gateway serves them, without any credential; the gateway may keep them for a while."""
    by_rpc = json.loads(keys_call(fleet, "GetJwks", bearer=None).json)
    response = fleet.session.get(fleet.manager_url + "/.well-known/jwks.json", timeout=60)
    assert response.status_code == 200
    assert response.json().keys() == by_rpc.keys() == {"keys"}
    for key in by_rpc["keys"] + response.json()["keys"]:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    return [key["kid"] for key in by_rpc["keys"]]


def test_our_own_key_rotates_and_tokens_of_the_old_one_are_good_for_a_while(fleet):
    of_old = fleet.headend_token("h1")
    assert published(fleet) == [kid_of(of_old)]
    before = time.time()
    made = keys_call(fleet, "Rotate", overlap_s=3600)
    of_new = fleet.headend_token("h1")
    assert kid_of(of_new) == made.kid != kid_of(of_old)
    assert status(fleet, of_new) == status(fleet, of_old) == 200
    new, old = keys_call(fleet, "List").keys
    assert (new.kid, new.expires_unix_ms, new.revoked_unix_ms) == (made.kid, 0, 0)
    assert old.kid == kid_of(of_old) and abs(old.expires_unix_ms / 1000 - before - 3600) < 60
    assert set(published(fleet)) == {new.kid, old.kid}


def test_tokens_of_a_revoked_key_are_refused_on_the_next_request(fleet):
    of_old = fleet.headend_token("h1")
    keys_call(fleet, "Rotate", overlap_s=3600)
    assert status(fleet, of_old) == 200  # and it is remembered
    revoked = keys_call(fleet, "Revoke", kid=kid_of(of_old))
    assert revoked.kid == kid_of(of_old) and revoked.revoked_unix_ms > 0
    assert status(fleet, of_old) == 401
    assert kid_of(of_old) not in published(fleet)
    again = keys_call(fleet, "Revoke", kid=kid_of(of_old))
    assert again.revoked_unix_ms == revoked.revoked_unix_ms
    assert status(fleet, fleet.headend_token("h1")) == 200


def test_tokens_of_a_key_end_with_it(fleet):
    of_old = fleet.headend_token("h1")
    keys_call(fleet, "Rotate", overlap_s=2)
    assert status(fleet, of_old) == 200
    wait_until(lambda: status(fleet, of_old) == 401, "the old key's time is over")
    assert kid_of(of_old) not in published(fleet)


def test_keys_are_the_same_after_a_restart(fleet):
    token = fleet.headend_token("h1")
    fleet.ingestd.stop()
    fleet.ingestd.start()
    fleet.wait_ready()
    assert status(fleet, token) == 200
    assert kid_of(fleet.headend_token("h1")) == kid_of(token)


@pytest.mark.parametrize("method, fields, code", [
    ("Revoke", {"kid": "nobody"}, "NOT_FOUND"), ("Revoke", {"kid": ""}, "INVALID_ARGUMENT"),
    ("Revoke", {"kid": "a/b"}, "INVALID_ARGUMENT"), ("Revoke", {"kid": "' OR 1=1 --"}, "INVALID_ARGUMENT"),
    ("Revoke", {"kid": "k" * 129}, "INVALID_ARGUMENT"), ("Rotate", {"overlap_s": 3652 * 86400 + 1}, "INVALID_ARGUMENT")])
def test_what_keys_calls_refuse(fleet, method, fields, code):
    with pytest.raises(RpcError) as failure:
        keys_call(fleet, method, **fields)
    assert failure.value.code == code


def test_the_key_that_signs_can_not_be_revoked(fleet):
    with pytest.raises(RpcError) as failure:
        keys_call(fleet, "Revoke", kid=kid_of(fleet.headend_token("h1")))
    assert failure.value.code == "FAILED_PRECONDITION" and "rotate first" in failure.value.message


@pytest.mark.parametrize("method", ["Rotate", "List", "Revoke"])
def test_keys_calls_need_the_admin_token(fleet, method):
    for bearer in (None, "wrong", fleet.cluster_token, fleet.headend_token("h1")):
        with pytest.raises(RpcError) as failure:
            keys_call(fleet, method, bearer=bearer)
        assert failure.value.code == "UNAUTHENTICATED"


def test_keys_are_shared_by_all_ingestd_of_a_database(make_cluster):
    cluster = make_cluster(start=False, registry="postgresql")
    other = cluster.add_ingestd()
    cluster.start()
    token = cluster.add_headend("h1")

    def accepted(token):
        batch = cluster.pb.ingest.Batch(agent_id="test", boot_id=1, number=time.monotonic_ns())
        batch.headends.add(headend_id="h1", time_unix_ms=[int(time.time() * 1000)], cpu_usage=[1])
        with cluster.rpc(url=other.url) as rpc:
            response = rpc.submit(cluster.pb.ingest.SubmitRequest(batch=batch.SerializeToString(), credentials=[token]))
        return not response.rejected

    def soon(condition, what):
        start = time.monotonic()
        wait_until(condition, what)
        return time.monotonic() - start

    assert soon(lambda: accepted(token), "the other one knows the headend") < 1
    took = []
    for _ in range(3):  # one of them, in case that the machine is busy with something else
        keys_call(cluster, "Rotate", overlap_s=3600)
        old, token = token, cluster.headend_token("h1")
        assert kid_of(old) != kid_of(token)
        took.append(soon(lambda t=token: accepted(t), "the other one knows the new key"))
        assert accepted(old)
        keys_call(cluster, "Revoke", kid=kid_of(old))
        took.append(soon(lambda t=old: not accepted(t), "the other one knows that the old key is revoked"))
        assert accepted(token)
    assert min(took[0::2]) < 1 and min(took[1::2]) < 1, took
