"""Certificates: the service that issues them, and openssl, which judges them."""
import subprocess

from harness import DEADLINE

SERVICE = "/tobogganing.v1.Certificates/"


def openssl(*arguments, text=None):
    """Its output; a failure fails the test."""
    done = openssl_tries(*arguments, text=text)
    assert done.returncode == 0, f"openssl {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}"
    return done.stdout


def openssl_tries(*arguments, text=None):
    return subprocess.run(["openssl", *map(str, arguments)], input=text, stdin=None if text else subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=DEADLINE, check=False)


class Certificates:
    """The service, with the admin token unless told otherwise."""

    def __init__(self, cluster, url=None, bearer=None):
        self.pb = cluster.pb.certificates
        self.registry = cluster.pb.registry
        self.rpc = cluster.rpc(cluster.admin_token if bearer is None else bearer, url=url)

    def call(self, method, request, response):
        return self.rpc.call(SERVICE + method, request, response)

    def issue(self, kind, subject, names=(), csr="", days=0):
        order = self.pb.CertificateOrder(csr=csr, validity_days=days)
        request = self.pb.IssueCertificateRequest(type=kind, subject=subject, names=names, order=order)
        return self.call("Issue", request, self.pb.IssuedCertificate)

    def get(self, serial):
        return self.call("Get", self.pb.CertificateSerial(serial=serial), self.pb.Certificate)

    def list(self, **fields):
        return self.call("List", self.pb.ListCertificatesRequest(**fields), self.pb.ListCertificatesResponse)

    def revoke(self, serial, reason=""):
        return self.call("Revoke", self.pb.RevokeCertificateRequest(serial=serial, reason=reason), self.pb.Certificate)

    def authority(self):
        return self.call("GetAuthority", self.pb.GetAuthorityRequest(), self.pb.Authority)

    def revocations(self):
        return self.call("GetRevocationList", self.pb.GetRevocationListRequest(), self.pb.RevocationList)

    def registry_call(self, method, request, response):
        return self.rpc.call("/tobogganing.v1.Registry/" + method, request, response)
