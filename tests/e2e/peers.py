"""Several ingestd on one database, each as an admin and as an agent sees it."""
import sp

REGISTRY = "/tobogganing.v1.Registry/"


class Peer:
    """One ingestd of several, as an admin and as an agent."""

    def __init__(self, cluster, daemon):
        self.cluster, self.daemon, self.pb = cluster, daemon, cluster.pb
        self.admin = cluster.rpc(bearer=cluster.admin_token, url=daemon.url)
        self.agent = cluster.rpc(url=daemon.url)

    def close(self):
        self.admin.close()
        self.agent.close()

    def call(self, method, request, response):
        return self.admin.call(REGISTRY + method, request, response)

    def add_client(self, client_id, **fields):
        answer = self.call("AddClient", self.pb.registry.AddClientRequest(client_id=client_id, **fields),
                           self.pb.registry.AddClientResponse)
        return answer.api_key

    def client(self, method, client_id, response=None):
        return self.call(method, self.pb.registry.ClientId(client_id=client_id), response or self.pb.registry.Client)

    def rotate(self, client_id, grace_s=0):
        request = self.pb.registry.RotateClientKeyRequest(client_id=client_id, grace_s=grace_s)
        return self.call("RotateClientKey", request, self.pb.registry.RotateClientKeyResponse).api_key

    def headend_token(self, headend_id):
        request = self.pb.registry.IssueHeadendTokenRequest(headend_id=headend_id)
        return self.call("IssueHeadendToken", request, self.pb.registry.IssueHeadendTokenResponse).token

    def list_clients(self):
        return self.call("ListClients", self.pb.registry.ListRequest(page_size=10000), self.pb.registry.ListClientsResponse)

    def health(self):
        return self.agent.call("/tobogganing.v1.Health/Check", self.pb.health.HealthCheckRequest(),
                               self.pb.health.HealthCheckResponse)

    def accepts(self, name, credential, kind="clients", value=1):
        """Is a report stored? Anything but a wrong credential, or a headend that is not known yet, is an error."""
        source = {"client" if kind == "clients" else "headend": name}
        request = self.cluster.one_report(credential, **source, value=value)
        try:
            answer = self.agent.submit(request)
        except sp.RpcError as error:
            assert error.code in ("UNAUTHENTICATED", "PERMISSION_DENIED"), error
            return False
        codes = [self.pb.rpc.Code.Name(rejection.code) for rejection in answer.rejected]
        assert set(codes) <= {"CODE_UNAUTHENTICATED", "CODE_PERMISSION_DENIED", "CODE_NOT_FOUND"}, codes
        return not codes


class Pair:
    """Two ingestd on one database."""

    def __init__(self, cluster):
        self.cluster, self.pb = cluster, cluster.pb
        self.peers = [Peer(cluster, daemon) for daemon in cluster.ingestds]
        self.a, self.b = self.peers

    def close(self):
        for peer in self.peers:
            peer.close()
