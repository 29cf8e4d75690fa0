"""The fleet's authority, when it is given, and when several ingestd share one."""
import concurrent.futures
import subprocess

import pytest

from certificates import Certificates, openssl, openssl_tries


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A root and key of somebody's own, RSA."""
    folder = tmp_path_factory.mktemp("given")
    certificate, key = folder / "ca.pem", folder / "ca.key"
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "100", "-subj",
            "/O=Example/CN=Example fleet", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    key.chmod(0o600)
    return certificate, key


def options_of(given):
    return ["--ca-cert-file", str(given[0]), "--ca-key-file", str(given[1])]


def test_a_given_authority_signs(make_cluster, given, tmp_path):
    cluster = make_cluster(ingestd_options=options_of(given))
    certificates = Certificates(cluster)
    authority = certificates.authority()
    assert authority.pem == given[0].read_text() and authority.subject == "CN=Example fleet,O=Example"
    issued = certificates.issue("server", "gw.example.com")
    assert issued.certificate.not_after_unix_s == authority.not_after_unix_s, "not after its authority"
    (tmp_path / "issued.pem").write_text(issued.certificate.pem)
    openssl("verify", "-x509_strict", "-CAfile", given[0], tmp_path / "issued.pem")
    certificates.revoke(issued.certificate.serial)
    (tmp_path / "crl.pem").write_text(certificates.revocations().pem)
    done = openssl_tries("verify", "-crl_check", "-CAfile", given[0], "-CRLfile", tmp_path / "crl.pem", tmp_path / "issued.pem")
    assert done.returncode != 0 and "certificate revoked" in done.stdout + done.stderr


def test_an_authority_that_is_none_stops_the_start_with_a_reason(make_cluster, given, tmp_path):
    certificate, key = given
    other_key, leaf, open_key = (tmp_path / name for name in ("other.key", "leaf.pem", "open.key"))
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", other_key)
    openssl("req", "-x509", "-key", key, "-out", leaf, "-days", "9", "-subj", "/CN=leaf", "-addext", "basicConstraints=critical,CA:FALSE")
    open_key.write_bytes(key.read_bytes())
    open_key.chmod(0o644)
    refused = [(certificate, other_key, "the key is not this certificate's"), (leaf, key, "not an authority's certificate"),
               (certificate, open_key, "chmod 600"),
               (tmp_path / "missing.pem", key, "missing.pem"), (key, key, "not a certificate"),
               (certificate, certificate, "not a private key")]
    secret = key.read_text().splitlines()[3]
    for pair in refused:
        cluster = make_cluster(start=False, ingestd_options=options_of(pair[:2]))
        pair[1].chmod(0o600 if pair[1] != open_key else 0o644)
        cluster.state_dir.mkdir(exist_ok=True)
        _, log = cluster.ingestd.start_fails()
        assert pair[2] in log, (pair, log)
        assert secret not in log


def test_an_expired_authority_is_warned_of_and_issues_nothing_and_reports_go_on(make_cluster, given, tmp_path):
    expired = tmp_path / "expired.pem"
    subprocess.run(["faketime", "2020-01-01", "openssl", "req", "-x509", "-key", given[1], "-out", expired, "-days", "9", "-subj",
                    "/CN=expired", "-addext", "keyUsage=critical,keyCertSign,cRLSign"], capture_output=True, check=True)
    cluster = make_cluster(ingestd_options=options_of((expired, given[1])))
    assert 'event=authority_not_valid problem="the certificate has expired"' in cluster.ingestd.log()
    key = cluster.add_client("c-1")
    assert cluster.post_client("c-1", key, {"metrics": {"bytes_sent": 1}}).status_code == 200
    refused = cluster.ctl("cert", "generate", "--type", "client", "--subject", "c-1", "--key-out", "-")
    assert refused.returncode == 1 and "FAILED_PRECONDITION: the authority's certificate has expired" in refused.stderr


# --- several ingestd on one registry ---

def test_two_that_start_together_have_one_authority_and_one_list(make_cluster):
    cluster = make_cluster(start=False, registry="postgresql")
    cluster.add_ingestd()
    for daemon in cluster.ingestds:
        daemon.state_dir.mkdir(mode=0o700, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda daemon: daemon.start(), cluster.ingestds))
    one, two = (Certificates(cluster, url=daemon.url) for daemon in cluster.ingestds)
    assert one.authority() == two.authority()
    serial = one.issue("server", "gw.example.com").certificate.serial
    assert two.get(serial).subject == "gw.example.com"
    empty = two.revocations()
    one.revoke(serial, "superseded")
    assert two.get(serial).reason == "superseded"
    assert two.revocations().der != empty.der
    for daemon in cluster.ingestds:
        daemon.stop()
