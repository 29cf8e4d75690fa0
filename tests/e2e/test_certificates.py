"""Certificates, as somebody else sees them: what is issued over RPC is judged by Debian's openssl."""
import base64
import collections
import datetime
import re
import subprocess
import time

import pytest

import sp
from certificates import Certificates, openssl, openssl_tries
from harness import DEADLINE, free_port, wait_until

DAY = 86400


def code_of(call, *arguments, **options):
    with pytest.raises(sp.RpcError) as caught:
        call(*arguments, **options)
    return caught.value.code, caught.value.message


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def fleet(request, make_cluster):
    cluster = make_cluster(registry=request.param)
    cluster.add_cluster("c1", region="eu-central", datacenter="fra1")
    cluster.keys = {name: cluster.add_client(name, cluster="c1") for name in ("ann", "ben", "cat", "dan", "eve")}
    cluster.add_headend("h1", cluster="c1")
    cluster.add_headend("h2", cluster="c1")
    return cluster


@pytest.fixture
def certificates(fleet):
    return Certificates(fleet)


@pytest.fixture
def files(tmp_path, certificates):
    """Writes PEM into files; the authority is there."""
    def write(name, text):
        path = tmp_path / name
        path.write_text(text)
        return path
    write("ca.pem", certificates.authority().pem)
    write.ca = tmp_path / "ca.pem"
    return write


def write_issued(files, name, issued):
    return files(f"{name}.pem", issued.certificate.pem), files(f"{name}.key", issued.key)


def make_request(tmp_path, kind, *options, subject="/CN=somebody else"):
    """A key and a request for it, made by openssl: the paths of both."""
    key, csr = tmp_path / "request.key", tmp_path / "request.csr"
    openssl("req", "-new", "-newkey", *kind, "-nodes", "-keyout", key, "-out", csr, "-subj", subject, *options)
    return key, csr


EC = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")


# --- the authority ---

def test_anybody_may_know_the_authority_and_it_is_one(fleet, certificates, files):
    with_nothing = Certificates(fleet, bearer="nobody").authority()
    assert with_nothing == certificates.authority()
    text = openssl("x509", "-in", files.ca, "-noout", "-text")
    assert "Subject: CN = Tobogganing fleet CA" in text and "Issuer: CN = Tobogganing fleet CA" in text
    assert re.search(r"Basic Constraints: critical\s+CA:TRUE, pathlen:0", text)
    assert re.search(r"Key Usage: critical\s+Certificate Sign, CRL Sign", text)
    assert "ASN1 OID: prime256v1" in text
    assert openssl("verify", "-x509_strict", "-check_ss_sig", "-CAfile", files.ca, files.ca).endswith(": OK\n")
    years = (with_nothing.not_after_unix_s - time.time()) / DAY / 365
    assert 9.9 < years < 10.1
    fingerprint = openssl("x509", "-in", files.ca, "-noout", "-sha256", "-fingerprint").strip().split("=")[1]
    assert fingerprint.replace(":", "").lower() == with_nothing.fingerprint


def test_the_authority_stays_over_a_restart(fleet):
    before = Certificates(fleet).authority()
    fleet.ingestd.stop()
    fleet.ingestd.start()
    assert Certificates(fleet).authority() == before
    fleet.wait_ready()


# --- issuing ---

PURPOSES = {"client": {"sslclient"}, "headend": {"sslclient", "sslserver"}, "server": {"sslserver"}}


@pytest.mark.parametrize("kind, subject", [("client", "ann"), ("headend", "h1"), ("headend", "c1"), ("server", "gw.example.com")])
def test_openssl_takes_a_certificate_for_what_it_is_meant_and_for_nothing_else(certificates, files, kind, subject):
    issued = certificates.issue(kind, subject)
    path, key = write_issued(files, "issued", issued)
    for purpose in ("sslclient", "sslserver"):
        done = openssl_tries("verify", "-x509_strict", "-purpose", purpose, "-CAfile", files.ca, path)
        assert (done.returncode == 0) == (purpose in PURPOSES[kind]), (purpose, done.stderr)
    public = openssl("x509", "-in", path, "-noout", "-pubkey")
    assert public == openssl("pkey", "-in", key, "-pubout")
    assert openssl("x509", "-in", path, "-noout", "-subject").strip() == f"subject=CN = {subject}"
    names = openssl("x509", "-in", path, "-noout", "-ext", "subjectAltName")
    assert f"URI:tobogganing:{kind}:{subject}" in names
    assert (f"DNS:{subject}" in names) == (kind != "client")
    assert issued.ca == certificates.authority().pem


def test_a_certificates_fields_are_what_openssl_reads_in_it(certificates, files):
    issued = certificates.issue("client", "ann", days=30)
    path, _ = write_issued(files, "issued", issued)
    serial = openssl("x509", "-in", path, "-noout", "-serial").strip().split("=")[1]
    assert serial.lower() == issued.certificate.serial and len(serial) == 32
    dates = dict(line.split("=") for line in openssl("x509", "-in", path, "-noout", "-dates").splitlines())

    def seconds(text):
        return datetime.datetime.strptime(text, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=datetime.timezone.utc).timestamp()
    assert seconds(dates["notBefore"]) == issued.certificate.not_before_unix_s
    assert seconds(dates["notAfter"]) == issued.certificate.not_after_unix_s
    assert abs(issued.certificate.not_after_unix_s - time.time() - 30 * DAY) < 60
    assert abs(time.time() - issued.certificate.not_before_unix_s - 300) < 60
    fingerprint = openssl("x509", "-in", path, "-noout", "-sha256", "-fingerprint").strip().split("=")[1]
    assert fingerprint.replace(":", "").lower() == issued.certificate.fingerprint


def test_names_are_what_was_ordered(certificates, files):
    issued = certificates.issue("server", "gw", names=["gw.example.com", "192.0.2.7", "2001:db8::7"])
    path, _ = write_issued(files, "issued", issued)
    for check in (("-checkhost", "gw.example.com"), ("-checkip", "192.0.2.7"), ("-checkip", "2001:db8::7")):
        assert "does match" in openssl("x509", "-in", path, "-noout", *check)
    assert "does NOT match" in openssl("x509", "-in", path, "-noout", "-checkip", "192.0.2.8")


@pytest.mark.parametrize("kind", [EC, ("ec", "-pkeyopt", "ec_paramgen_curve:P-384"), ("ed25519",), ("rsa:2048",)], ids=str)
def test_a_request_made_by_openssl_is_signed_and_its_wishes_are_not_heard(certificates, files, tmp_path, kind):
    key, csr = make_request(tmp_path, kind, "-addext", "basicConstraints=critical,CA:TRUE", "-addext",
                            "subjectAltName=DNS:bank.example", subject="/O=Bank/CN=bank.example")
    issued = certificates.issue("headend", "h1", csr=csr.read_text())
    assert issued.key == ""
    path = files("issued.pem", issued.certificate.pem)
    assert openssl("x509", "-in", path, "-noout", "-pubkey") == openssl("pkey", "-in", key, "-pubout")
    text = openssl("x509", "-in", path, "-noout", "-text")
    assert "bank" not in text.lower() and "CA:TRUE" not in text
    openssl("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", files.ca, path)


def test_hostile_requests_are_refused_with_the_field(certificates, tmp_path):
    _, csr = make_request(tmp_path, EC)
    good = csr.read_text()
    lines = good.splitlines()
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    der[-1] ^= 1

    def pem(raw):
        return f"{lines[0]}\n{base64.encodebytes(bytes(raw)).decode()}{lines[-1]}\n"
    _, weak = make_request(tmp_path, ("rsa:1024",))
    _, curve = make_request(tmp_path, ("ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"))
    hostile = {"another signature": pem(der), "garbage after the DER": pem(der[:-1] + bytes([der[-1] ^ 1]) + b"x"),
               "garbage after the PEM": good + "x", "17 KiB": good + "\n" * 17 * 1024, "RSA 1024": weak.read_text(),
               "secp256k1": curve.read_text(), "two": good + good, "no PEM": "hello"}
    for part in range(1, 16):
        hostile[f"cut at {part}/16"] = good[:len(good) * part // 16]
        hostile[f"DER cut at {part}/16"] = pem(der[:len(der) * part // 16])
    for name, request in hostile.items():
        code, message = code_of(certificates.issue, "client", "ann", csr=request)
        assert code == "INVALID_ARGUMENT" and message.startswith("csr: "), (name, code, message)
    assert certificates.issue("client", "ann", csr=good).certificate.serial


def test_hostile_orders_are_refused_with_the_field(certificates):
    refused = [(("robot", "ann"), {}, "type: "), (("client", ""), {}, "subject: "), (("client", "a" * 65), {}, "subject: "),
               (("client", "x'; DROP TABLE certificates; --"), {}, "subject: "), (("server", "a/b"), {}, "subject: "),
               (("server", "gw"), {"names": ["*.example.com"]}, "names: "), (("server", "gw"), {"names": [""]}, "names: "),
               (("server", "gw"), {"names": ["a,DNS:b"]}, "names: "), (("server", "gw"), {"names": ["a"] * 33}, "names: "),
               (("server", "gw"), {"days": 3651}, "validity_days: ")]
    for arguments, options, field in refused:
        code, message = code_of(certificates.issue, *arguments, **options)
        assert code == "INVALID_ARGUMENT" and message.startswith(field), (arguments, options, code, message)
    for text in ("gw\0.example.com", "gw.example.com\0"):
        assert code_of(certificates.issue, "server", "gw", names=[text])[0] == "INVALID_ARGUMENT"
        assert code_of(certificates.issue, "server", text)[0] == "INVALID_ARGUMENT"


def test_clients_and_headends_have_to_be_registered(certificates):
    for kind in ("client", "headend"):
        code, message = code_of(certificates.issue, kind, "nobody")
        assert code == "FAILED_PRECONDITION" and "nobody" in message
    assert code_of(certificates.issue, "client", "h1")[0] == "FAILED_PRECONDITION"
    assert code_of(certificates.issue, "headend", "ann")[0] == "FAILED_PRECONDITION"
    assert not certificates.list(subject="nobody").certificates


def test_only_admins_issue_read_and_revoke(fleet, certificates):
    issued = certificates.issue("client", "ann")
    for bearer in ("wrong", fleet.keys["ann"], fleet.cluster_token, fleet.headend_token("h1")):
        stranger = Certificates(fleet, bearer=bearer)
        serial = issued.certificate.serial
        for call in (lambda: stranger.issue("client", "ann"), lambda: stranger.get(serial), stranger.list,
                     lambda: stranger.revoke(serial)):
            assert code_of(call)[0] == "UNAUTHENTICATED"
    assert certificates.get(issued.certificate.serial).revoked_unix_ms == 0


def test_keys_are_in_the_answer_and_nowhere_else(fleet, certificates):
    issued = certificates.issue("client", "ben")
    secret = issued.key.splitlines()[1]
    assert issued.key.startswith("-----BEGIN PRIVATE KEY-----")
    assert certificates.get(issued.certificate.serial).pem == issued.certificate.pem
    for path in fleet.folder.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path
    assert "PRIVATE KEY" not in fleet.ingestd.log()


# --- reading ---

def test_certificates_are_listed_by_page_and_by_subject(certificates):
    serials = {certificates.issue("server", "listed.example").certificate.serial for _ in range(7)}
    found, page = [], ""
    while True:
        answer = certificates.list(subject="listed.example", page=page, page_size=3)
        found += answer.certificates
        assert len(answer.certificates) <= 3
        page = answer.next_page
        if not page:
            break
    assert [c.serial for c in found] == sorted(serials)
    assert {(c.type, c.subject, c.pem) for c in found} == {("server", "listed.example", "")}
    everything = {c.serial for c in certificates.list(page_size=10000).certificates}
    assert serials < everything
    one = certificates.get(found[0].serial.upper())
    assert one.pem and (one.serial, one.fingerprint) == (found[0].serial, found[0].fingerprint)
    assert code_of(certificates.get, "4a" * 16) == ("NOT_FOUND", "serial: no such certificate")
    for serial in ("", "xyz", "4a" * 21, "4a'--"):
        assert code_of(certificates.get, serial)[0] == "INVALID_ARGUMENT"
        assert code_of(certificates.revoke, serial)[0] == "INVALID_ARGUMENT"
    assert code_of(certificates.list, page="not one")[0] == "INVALID_ARGUMENT"
    assert code_of(certificates.list, page_size=10001)[0] == "INVALID_ARGUMENT"


# --- revoking ---

def crl_text(files, found):
    path = files("crl.pem", found.pem)
    assert "verify OK" in openssl_tries("crl", "-in", path, "-CAfile", files.ca, "-noout").stderr
    return path, openssl("crl", "-in", path, "-noout", "-text")


def verify_with_list(files, crl, certificate):
    done = openssl_tries("verify", "-crl_check", "-x509_strict", "-CAfile", files.ca, "-CRLfile", crl, certificate)
    assert done.returncode == 0 or "certificate revoked" in done.stdout + done.stderr, done.stderr
    return done.returncode == 0


def test_what_is_revoked_is_on_the_list_at_once_and_refused(fleet, certificates, files):
    good, bad = (certificates.issue("client", "cat") for _ in range(2))
    paths = [write_issued(files, name, issued)[0] for name, issued in (("good", good), ("bad", bad))]
    crl, _ = crl_text(files, certificates.revocations())
    assert [verify_with_list(files, crl, path) for path in paths] == [True, True]
    revoked = certificates.revoke(bad.certificate.serial.upper(), "key_compromise")
    assert abs(revoked.revoked_unix_ms / 1000 - time.time()) < 60 and revoked.reason == "key_compromise"
    anybodys = Certificates(fleet, bearer="nobody").revocations()
    crl, text = crl_text(files, anybodys)
    assert [verify_with_list(files, crl, path) for path in paths] == [True, False]
    assert re.search(rf"Serial Number: {bad.certificate.serial.upper()}\s.*?CRL Reason Code:\s+Key Compromise", text, re.S)
    assert good.certificate.serial.upper() not in text
    der = files("crl.der", "")
    der.write_bytes(anybodys.der)
    assert openssl("crl", "-inform", "DER", "-in", der, "-noout", "-text") == text
    assert abs(anybodys.next_update_unix_s - time.time() - DAY) < 120


def test_a_revocation_stays_as_it_was_first(certificates):
    serial = certificates.issue("server", "twice.example").certificate.serial
    first = certificates.revoke(serial, "superseded")
    assert certificates.revoke(serial, "key_compromise") == first == certificates.get(serial)
    code, message = code_of(certificates.revoke, serial, "because")
    assert code == "INVALID_ARGUMENT" and message.startswith("reason: ")
    assert code_of(certificates.revoke, "4a" * 16)[0] == "NOT_FOUND"


def test_the_lists_number_grows(certificates, files):
    def number():
        found = re.search(r"X509v3 CRL Number:\s+(\S+)", crl_text(files, certificates.revocations())[1])
        return int(found.group(1), 0)
    before = number()
    assert number() == before  # the same list
    certificates.revoke(certificates.issue("server", "number.example").certificate.serial)
    assert number() > before


def test_revoking_or_deleting_a_source_revokes_its_certificates(certificates):
    registry = certificates.registry
    issued = {subject: certificates.issue(kind, subject).certificate.serial
              for kind, subject in (("client", "dan"), ("client", "eve"), ("headend", "h2"))}
    other = certificates.issue("server", "dan").certificate.serial
    certificates.registry_call("RevokeClient", registry.ClientId(client_id="dan"), registry.Client)
    certificates.registry_call("DeleteClient", registry.ClientId(client_id="eve"), registry.DeleteResponse)
    certificates.registry_call("DeleteHeadend", registry.HeadendId(headend_id="h2"), registry.DeleteResponse)
    assert [certificates.get(issued[subject]).reason for subject in ("dan", "eve", "h2")] == [
        "privilege_withdrawn", "cessation_of_operation", "cessation_of_operation"]
    assert certificates.get(other).revoked_unix_ms == 0
    code, message = code_of(certificates.issue, "client", "dan")
    assert code == "FAILED_PRECONDITION" and message == "subject: client dan is revoked"


def test_every_act_is_in_the_audit_log(fleet, certificates):
    registry = certificates.registry
    serial = certificates.issue("server", "audited.example").certificate.serial
    certificates.revoke(serial, "superseded")
    found = certificates.registry_call("ListAudit", registry.ListAuditRequest(target=serial), registry.ListAuditResponse)
    assert [(e.action, e.detail) for e in found.entries] == [
        ("certificate.revoke", "server audited.example: superseded"), ("certificate.issue", "server audited.example")]
    assert {(e.who[:12], e.peer) for e in found.entries} == {("admin token ", fleet.source)}


# --- certificates that come with a registration ---

def test_a_registration_brings_its_certificate(certificates, files):
    registry, order = certificates.registry, certificates.pb.CertificateOrder(validity_days=10)
    client = certificates.registry_call(
        "AddClient", registry.AddClientRequest(client_id="fay", certificate=order), registry.AddClientResponse)
    cluster = certificates.registry_call(
        "AddCluster", registry.AddClusterRequest(cluster_id="c9", headend_url="https://vpn.example.com:51820", certificate=order),
        registry.AddClusterResponse)
    headend = certificates.registry_call(
        "AddHeadend", registry.AddHeadendRequest(headend_id="h9", cluster_id="c9", certificate=order), registry.AddHeadendResponse)
    for name, answer, purpose in (("fay", client, "sslclient"), ("c9", cluster, "sslserver"), ("h9", headend, "sslserver")):
        path, key = write_issued(files, name, answer.certificate)
        openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", files.ca, path)
        assert openssl("x509", "-in", path, "-noout", "-pubkey") == openssl("pkey", "-in", key, "-pubout")
        assert certificates.get(answer.certificate.certificate.serial).subject == name
    assert "does match" in openssl("x509", "-in", files("c9.pem", cluster.certificate.certificate.pem), "-noout",
                                   "-checkhost", "vpn.example.com")


def test_a_registration_whose_request_is_refused_registers_nothing(certificates):
    registry = certificates.registry
    order = certificates.pb.CertificateOrder(csr="hello")
    code, message = code_of(certificates.registry_call, "AddClient",
                            registry.AddClientRequest(client_id="gus", certificate=order), registry.AddClientResponse)
    assert code == "INVALID_ARGUMENT" and message.startswith("csr: ")
    assert code_of(certificates.registry_call, "GetClient", registry.ClientId(client_id="gus"), registry.Client)[0] == "NOT_FOUND"


# --- TLS ---

class TlsServer:
    """openssl s_server, which wants a certificate of our clients'."""

    def __init__(self, tmp_path, ca, certificate, key, crl):
        self.port = free_port()
        self.log = tmp_path / "s_server.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-cert", certificate, "-key", key, "-CAfile", ca,
                 "-Verify", "2", "-verify_return_error", "-crl_check", "-CRL", crl, "-purpose", "sslclient", "-www"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        wait_until(lambda: b"ACCEPT" in self.log.read_bytes(), "s_server listens")

    def handshake(self, ca, name, *options):
        """With TLS 1.2, whose client waits for the server's verdict."""
        return openssl_tries("s_client", "-connect", f"127.0.0.1:{self.port}", "-tls1_2", "-CAfile", ca, "-verify_return_error",
                             "-verify_hostname", name, *options, text="Q\n")

    def stop(self):
        self.process.terminate()
        self.process.wait(DEADLINE)


def test_a_tls_peer_lets_good_clients_in_and_revoked_ones_not(certificates, files, tmp_path):
    server = write_issued(files, "server", certificates.issue("headend", "h1", names=["vpn.example.com"]))
    pairs = {name: (issued, write_issued(files, name, issued)) for name, issued in
             (("good", certificates.issue("client", "ann")), ("bad", certificates.issue("client", "ben")),
              ("not a client", certificates.issue("server", "gw.example.com")))}
    certificates.revoke(pairs["bad"][0].certificate.serial, "privilege_withdrawn")
    crl = files("crl.pem", certificates.revocations().pem)
    tls = TlsServer(tmp_path, files.ca, *server, crl)
    try:
        def with_certificate(name):
            certificate, key = pairs[name][1]
            return tls.handshake(files.ca, "vpn.example.com", "-cert", certificate, "-key", key)
        done = with_certificate("good")
        assert done.returncode == 0 and "Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr
        for refused in ("bad", "not a client"):
            assert with_certificate(refused).returncode != 0, refused
        assert tls.handshake(files.ca, "vpn.example.com").returncode != 0, "without a certificate"
        certificate, key = pairs["good"][1]
        other = tls.handshake(files.ca, "other.example.com", "-cert", certificate, "-key", key)
        assert other.returncode != 0 and "hostname mismatch" in (other.stdout + other.stderr).lower()
    finally:
        tls.stop()
    assert b"certificate revoked" in tls.log.read_bytes()


# --- metrics ---

def test_issued_certificates_are_counted_and_their_ends_shown(fleet, certificates):
    certificates.issue("client", "ann", days=100)
    certificates.issue("headend", "h1", days=90)
    last = certificates.issue("server", "ends.example", days=3)
    assert code_of(certificates.issue, "client", "nobody")[0] == "FAILED_PRECONDITION"
    there_are = collections.Counter(c.type for c in certificates.list(page_size=10000).certificates)
    assert all(there_are[kind] for kind in ("client", "headend", "server"))
    for kind, count in there_are.items():
        fleet.wait_value("tobogganing_manager_certificates_issued_total", count, type=kind)

    def days(kind):
        return fleet.scrape().value("tobogganing_manager_certificate_expiry_days", type=kind)
    assert 3649 < days("ca") <= 3650
    wait_until(lambda: 2.9 < days("server") <= 3, "the server's end is the soonest")
    renewed = certificates.issue("server", "ends.example", days=300)
    wait_until(lambda: days("server") > 3, "a renewed certificate's end does not count")
    certificates.revoke(renewed.certificate.serial, "superseded")
    wait_until(lambda: 2.9 < days("server") <= 3, "what was superseded is used again")
    certificates.revoke(last.certificate.serial, "superseded")
    wait_until(lambda: days("server") > 3, "a revoked certificate's end does not count")


def test_clients_on_their_previous_key_are_followed(fleet, certificates):
    registry = certificates.registry
    family = "tobogganing_manager_clients_on_previous_key"
    before = fleet.wait_value(family, 0).value(family)
    old = fleet.keys["ann"]
    rotated = certificates.registry_call("RotateClientKey", registry.RotateClientKeyRequest(client_id="ann", grace_s=3600),
                                         registry.RotateClientKeyResponse)
    body = {"metrics": {"bytes_sent": 1}}
    assert fleet.post_client("ann", old, body).status_code == 200
    fleet.wait_value(family, before + 1)
    assert fleet.post_client("ann", rotated.api_key, body).status_code == 200
    fleet.wait_value(family, before)
    fleet.keys["ann"] = rotated.api_key
