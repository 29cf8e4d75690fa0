"""gateway/openapi.json is true: every operation is called, every documented status is provoked, and every answer is checked
by its schema. A status or an operation that nobody calls here fails."""
import copy
import itertools
import json
import re
import signal
import socket
import threading
import time
from types import SimpleNamespace

import jsonschema
import pytest

from faulty import FaultyIngestd
from harness import ROOT, free_port, wait_until
from http_api import Caller

DOCUMENT = json.loads((ROOT / "gateway" / "openapi.json").read_text())
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
OPERATIONS = {operation["operationId"]: SimpleNamespace(id=operation["operationId"], method=method.upper(), path=path,
                                                        description=operation)
              for path, item in DOCUMENT["paths"].items() for method, operation in item.items()}
CASES = [(operation.id, status) for operation in OPERATIONS.values() for status in operation.description["responses"]]
WRONG_FROM = "127.0.0.77"  # whose wrong credentials are one too many


# --- the document ---

def resolve(value):
    while isinstance(value, dict) and "$ref" in value:
        target = DOCUMENT
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        value = target
    return value


def closed(schema):
    """The schema with nothing allowed that it does not name."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {name: value if name in ("const", "enum", "default") else closed(value) for name, value in schema.items()}
    if "allOf" in schema or ("properties" in schema and "anyOf" not in schema):
        schema.setdefault("unevaluatedProperties", False)
    return schema


def merged(schema):
    """allOf in a request's schema, as one schema: its parts don't know each other's names."""
    schema = resolve(schema)
    parts = [merged(part) for part in schema.get("allOf", [])]
    whole = {name: value for name, value in schema.items() if name != "allOf"}
    for part in parts:
        whole["properties"] = {**whole.get("properties", {}), **part.get("properties", {})}
        whole["required"] = [*whole.get("required", []), *part.get("required", [])]
        whole["type"] = "object"
    return whole


FORMATS = jsonschema.FormatChecker(formats=[])
FORMATS.checks("date-time")(lambda text: not isinstance(text, str) or
                            bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text)))
CLOSED_DOCUMENT = copy.deepcopy(DOCUMENT)
CLOSED_DOCUMENT["components"]["schemas"] = {name: closed(merged(schema))
                                            for name, schema in DOCUMENT["components"]["schemas"].items()}


def validate(value, schema):
    resolver = jsonschema.RefResolver("", CLOSED_DOCUMENT)
    jsonschema.Draft202012Validator(closed(schema), resolver=resolver, format_checker=FORMATS).validate(value)


def every(value, where=""):
    yield where, value
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from every(child, f"{where}/{name}")


def test_the_document_is_what_is_served(cluster):
    answer = Caller(cluster.ports["gateway"])("GET", "/openapi.json")
    assert answer.status == 200 and answer.json == DOCUMENT and answer.headers["Cache-Control"] == "max-age=300"


def test_the_document_is_openapi_3_1():
    assert re.fullmatch(r"3\.1\.\d+", DOCUMENT["openapi"])
    assert set(DOCUMENT) <= {"openapi", "info", "tags", "paths", "components"}
    assert DOCUMENT["info"]["title"] and DOCUMENT["info"]["version"]
    references = {value["$ref"] for _, value in every(DOCUMENT) if isinstance(value, dict) and "$ref" in value}
    for reference in references:
        assert resolve({"$ref": reference}) is not None, reference
    for kind, entries in DOCUMENT["components"].items():
        for name, entry in entries.items():
            if kind == "securitySchemes":
                assert entry["type"] == "http" and entry["scheme"] == "bearer"
            else:
                assert f"#/components/{kind}/{name}" in references, f"{kind}/{name} is not used"
            if kind == "schemas":
                jsonschema.Draft202012Validator.check_schema(entry)


def test_the_operations_are_complete():
    assert len(OPERATIONS) == sum(len(item) for item in DOCUMENT["paths"].values()), "an operationId is there twice"
    tags = {tag["name"] for tag in DOCUMENT["tags"]}
    schemes = set(DOCUMENT["components"]["securitySchemes"])
    for operation in OPERATIONS.values():
        assert operation.method.lower() in METHODS and operation.path.startswith("/")
        parameters = [resolve(parameter) for parameter in operation.description.get("parameters", [])]
        in_path = {parameter["name"] for parameter in parameters if parameter["in"] == "path"}
        assert in_path == set(re.findall(r"\{(\w+)\}", operation.path)), operation.id
        assert all(parameter["required"] for parameter in parameters if parameter["in"] == "path")
        assert set(operation.description["tags"]) <= tags
        assert {name for need in operation.description["security"] for name in need} <= schemes
        assert operation.description["summary"] and "200" in operation.description["responses"]
        for status, response in operation.description["responses"].items():
            assert re.fullmatch(r"[2-5]\d\d", status) and resolve(response)["description"]
            assert resolve(response)["content"]


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_other_methods_are_405_with_those_there_are(cluster, path):
    served = {method.upper() for method in DOCUMENT["paths"][path]}
    served |= {"HEAD"} if "GET" in served else set()
    other_paths = [other for other in DOCUMENT["paths"] if other != path and
                   re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", other), path)]
    for other in other_paths:  # /api/v1/clients/register is also a client's path
        served |= {method.upper() for method in DOCUMENT["paths"][other]} | {"HEAD"}
    call = Caller(cluster.ports["gateway"])
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} - served:
        answer = call(method, re.sub(r"\{\w+\}", "x", path))
        assert answer.status == 405, f"{method} {path}: {answer.status}"
        assert {name.strip() for name in answer.headers["Allow"].split(",")} == served


# --- the world in which the operations are called ---

class World:
    """A cluster with something of every kind in it, and more of it when an operation uses it up."""

    def __init__(self, cluster, caller=None):
        self.cluster, self.pb = cluster, cluster.pb
        self.call = caller or Caller(cluster.ports["gateway"])
        self.numbers = itertools.count(1)
        self.made = {}

    def admin(self, method, path, body=None):
        answer = self.call(method, path, self.cluster.admin_token, body)
        assert answer.status == 200, f"{method} {path}: {answer.content}"
        return answer.json

    def once(self, name, make):
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

    def new_cluster(self):
        cluster_id = f"cluster-{next(self.numbers)}"
        self.admin("POST", "/api/v1/clusters/register", {"name": "C", "region": "eu", "datacenter": "fra",
                                                         "headend_url": "https://c.example.com", "cluster_id": cluster_id})
        return cluster_id

    def new_client(self, cluster_id=None):
        client_id = f"client-{next(self.numbers)}"
        return self.admin("POST", "/api/v1/clients/register", {"name": "N", "type": "docker", "public_key": "pk", "client_id":
                                                               client_id, "cluster_id": cluster_id or self.a_cluster})

    def new_headend(self):
        headend_id = f"headend-{next(self.numbers)}"
        self.admin("POST", "/api/v1/headends/register", {"name": "H", "headend_id": headend_id, "cluster_id": self.a_cluster})
        return headend_id

    def token_of(self, headend_id):
        return self.admin("POST", f"/api/v1/headends/{headend_id}/token")["token"]

    def new_certificate(self):
        return self.admin("POST", "/api/v1/certs/generate", {"type": "server", "subject": f"s-{next(self.numbers)}"})["serial"]

    @property
    def a_cluster(self):
        return self.once("cluster", self.new_cluster)

    @property
    def a_client(self):
        client = self.once("client", self.new_client)
        return client["client_id"], client["api_key"]

    @property
    def a_headend(self):
        headend_id = self.once("headend", self.new_headend)
        return headend_id, self.once("headend token", lambda: self.token_of(headend_id))

    @property
    def a_certificate(self):
        return self.once("certificate", self.new_certificate)


CLIENT_REPORT = {"headless": True, "metrics": {"bytes_sent": 1, "bytes_received": 2, "packets_sent": 3, "packets_received": 4,
                                               "connection_uptime": 5.5}}
HEADEND_REPORT = {"headend_name": "H", "metrics": {"active_connections": 1, "bandwidth_in": 2, "bandwidth_out": 3,
                                                   "cpu_usage": 4.5, "memory_usage": 6}}
CLUSTER = {"name": "C", "region": "eu", "datacenter": "fra", "headend_url": "https://c.example.com"}
CLIENT = {"name": "N", "type": "mobile", "public_key": "pk"}


def batch(world):
    client_id, key = world.a_client
    message = world.pb.ingest.Batch(agent_id="openapi", boot_id=1, number=next(world.numbers))
    message.clients.add(client_id=client_id, time_unix_ms=[int(time.time() * 1000)], bytes_sent=[9])
    return world.pb.ingest.SubmitRequest(batch=message.SerializeToString(), credentials=[key]).SerializeToString()


def reported(world, kind):
    """A source that has reported, and its credential."""
    source, credential = world.a_client if kind == "client" else world.a_headend
    body = CLIENT_REPORT if kind == "client" else HEADEND_REPORT
    answer = world.call("POST", f"/api/v1/{kind}s/{source}/metrics", credential, body)
    assert answer.status == 200, answer.content
    return source, credential


def request(path_value=None, token=None, body=None, query="", **more):
    return SimpleNamespace(path_value=path_value, token=token, body=body, query=query, more=more)


ADMIN = object()  # the admin's token

# What to send so that it succeeds.
GOOD = {
    "reportClient": lambda w: request(*w.a_client, CLIENT_REPORT),
    "reportHeadend": lambda w: request(*w.a_headend, HEADEND_REPORT),
    "lastClientReport": lambda w: request(*reported(w, "client")),
    "lastHeadendReport": lambda w: request(*reported(w, "headend")),
    "submitBatch": lambda w: request(None, None, batch(w), headers={"Content-Type": "application/x-protobuf"}),
    "registerCluster": lambda w: request(None, ADMIN, CLUSTER),
    "listClusters": lambda w: request(w.a_cluster and None, ADMIN),
    "getCluster": lambda w: request(w.a_cluster, ADMIN),
    "deleteCluster": lambda w: request(w.new_cluster(), ADMIN),
    "heartbeatCluster": lambda w: request(w.a_cluster, ADMIN, {"client_count": 3}),
    "revokeCluster": lambda w: request(w.new_cluster(), ADMIN),
    "registerClient": lambda w: request(None, ADMIN, {**CLIENT, "location": {"region": "eu"}, "cluster_id": w.a_cluster}),
    "listClients": lambda w: request(w.a_client and None, ADMIN, query="?page_size=2"),
    "getClient": lambda w: request(w.a_client[0], ADMIN),
    "deleteClient": lambda w: request(w.new_client()["client_id"], ADMIN),
    "rotateClientKey": lambda w: request((c := w.new_client())["client_id"], c["api_key"], {"grace_seconds": 60}),
    "revokeClient": lambda w: request(w.new_client()["client_id"], ADMIN),
    "registerHeadend": lambda w: request(None, ADMIN, {"name": "H", "cluster_id": w.a_cluster}),
    "listHeadends": lambda w: request(w.a_headend and None, ADMIN),
    "getHeadend": lambda w: request(w.a_headend[0], ADMIN),
    "deleteHeadend": lambda w: request(w.new_headend(), ADMIN),
    "revokeHeadend": lambda w: request(w.new_headend(), ADMIN),
    "issueHeadendToken": lambda w: request(w.a_headend[0], ADMIN, {"ttl_seconds": 60}),
    "issueCertificate": lambda w: request(None, ADMIN, {"type": "server", "subject": "s", "names": ["s.example.com"],
                                                        "validity_days": 3}),
    "listCertificates": lambda w: request(w.a_certificate and None, ADMIN, query="?subject=s"),
    "getAuthority": lambda w: request(),
    "getRevocationList": lambda w: request(),
    "getRevocationListPem": lambda w: request(),
    "getCertificate": lambda w: request(w.a_certificate, ADMIN),
    "revokeCertificate": lambda w: request(w.new_certificate(), ADMIN, {"reason": "superseded"}),
    "listAudit": lambda w: request(w.a_client and None, ADMIN, query="?page_size=5"),
    "getJwks": lambda w: request(w.a_headend and None),
    "scrape": lambda w: request(None, w.cluster.metrics_token, query="?collect[]=manager"),
    "live": lambda w: request(),
    "ready": lambda w: request(),
    "describe": lambda w: request(),
}


def revoked(world, kind, source):
    world.admin("POST", f"/api/v1/{kind}s/{source}/revoke")
    return source


def twice(world, body, **ids):
    return request(None, ADMIN, {**body, **ids})


def token_of_a_deleted(world):
    headend_id = world.new_headend()
    token = world.token_of(headend_id)
    world.admin("DELETE", f"/api/v1/headends/{headend_id}")
    return request(headend_id, token, HEADEND_REPORT)


def another_headends_token(world, body=None):
    return request(world.a_headend[0], world.token_of(world.new_headend()), body)


def never_reported(world, kind):
    if kind == "client":
        client = world.new_client()
        return request(client["client_id"], client["api_key"])
    headend_id = world.new_headend()
    return request(headend_id, world.token_of(headend_id))


# What to send for a status that not every operation has in the same way.
SPECIAL = {
    ("reportHeadend", "403"): lambda w: another_headends_token(w, HEADEND_REPORT),
    ("lastHeadendReport", "403"): another_headends_token,
    ("heartbeatCluster", "403"): lambda w: request(w.new_cluster(), w.a_headend[1], {"client_count": 1}),
    ("reportHeadend", "404"): token_of_a_deleted,
    ("lastClientReport", "404"): lambda w: never_reported(w, "client"),
    ("lastHeadendReport", "404"): lambda w: never_reported(w, "headend"),
    ("registerClient", "404"): lambda w: request(None, ADMIN, {**CLIENT, "cluster_id": "nobody"}),
    ("registerHeadend", "404"): lambda w: request(None, ADMIN, {"name": "H", "cluster_id": "nobody"}),
    ("registerCluster", "409"): lambda w: request(None, ADMIN, {**CLUSTER, "cluster_id": w.a_cluster}),
    ("deleteCluster", "409"): lambda w: request(w.a_cluster and w.a_client and w.a_cluster, ADMIN),
    ("heartbeatCluster", "409"): lambda w: request(revoked(w, "cluster", w.new_cluster()), ADMIN, {"client_count": 1}),
    ("registerClient", "409"): lambda w: request(None, ADMIN, {**CLIENT, "client_id": w.a_client[0], "cluster_id": w.a_cluster}),
    ("rotateClientKey", "409"): lambda w: request(revoked(w, "client", w.new_client()["client_id"]), ADMIN),
    ("registerHeadend", "409"): lambda w: request(None, ADMIN, {"name": "H", "cluster_id": w.a_cluster,
                                                                "headend_id": w.a_headend[0]}),
    ("issueHeadendToken", "409"): lambda w: request(revoked(w, "headend", w.new_headend()), ADMIN),
    ("issueCertificate", "409"): lambda w: request(None, ADMIN, {"type": "client", "subject": "nobody"}),
    ("submitBatch", "400"): lambda w: request(None, None, b"\xff", headers={"Content-Type": "application/x-protobuf"}),
    ("scrape", "400"): lambda w: request(None, w.cluster.metrics_token, query="?collect[]=nothing"),
}


def too_long(operation):
    size = (4 << 20) + 1 if operation.id == "submitBatch" else 70000
    return b" " * size


def wrong_credential(operation):
    """One of the right kind: what is no token of the form is not counted."""
    schemes = {name for need in operation.description["security"] for name in need}
    return "tobk_" + "A" * 43 if "api_key" in schemes else "wrong"


def changed(operation, status, world):
    """What to send for a status that every operation answers in the same way."""
    good = GOOD[operation.id](world)
    if status == "400" and good.path_value:
        good.path_value = "a'b"
    elif status == "400" and operation.method == "GET":
        good.query = "?page_size=x"
    elif status == "400":
        good.body = b"{"
    elif status == "401":
        good.token = wrong_credential(operation)
    elif status == "404":
        good.path_value, good.token = ("00ff" if "{serial}" in operation.path else "nobody"), ADMIN
    elif status == "411":
        good.more["length"] = False
    elif status == "413":
        good.body = too_long(operation)
    elif status == "415":
        good.more["headers"] = {"Content-Type": "text/plain"}
        good.body = b"x"
    else:
        return None
    return good


def send(caller, world, operation, asked):
    path = re.sub(r"\{\w+\}", str(asked.path_value), operation.path) + asked.query
    token = world.cluster.admin_token if asked.token is ADMIN else asked.token
    return caller(operation.method, path, token, asked.body, **asked.more)


# --- the places where an operation fails in a certain way ---

class FaultyExporter:
    """Answers what is no HTTP."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(b"what?\r\n\r\n")

    def close(self):
        self.listener.close()


@pytest.fixture(scope="module")
def world(cluster):
    return World(cluster)


def gateway_of(cluster, ingest, exporter, *options):
    """One more gateway of a cluster; returns its port."""
    port = free_port()
    daemon = cluster._daemon("gateway-2", ["--listen", f"127.0.0.1:{port}", "--ingest", ingest, "--exporter", exporter,
                                           *options], CLUSTER_TOKEN=cluster.cluster_token)
    cluster.daemons.append(daemon)
    daemon.start()
    return port


@pytest.fixture(scope="module")
def faulty(cluster, pb):
    """A gateway whose ingestd and exporter are broken."""
    ingestd, exporter = FaultyIngestd(pb), FaultyExporter()
    port = gateway_of(cluster, ingestd.url, exporter.url)
    yield SimpleNamespace(ingestd=ingestd, call=Caller(port))
    ingestd.close()
    exporter.close()


@pytest.fixture(scope="module")
def silent(make_cluster):
    """A cluster whose ingestd does not answer any more."""
    cluster = make_cluster(gateway_options=["--request-timeout", "300ms"])
    world = World(cluster)
    asked = {name: make(world) for name, make in GOOD.items()}
    cluster.ingestd.process.send_signal(signal.SIGSTOP)
    yield SimpleNamespace(world=world, asked=asked)
    cluster.ingestd.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def away(make_cluster):
    """A cluster whose ingestd and exporter have been stopped."""
    cluster = make_cluster(gateway_options=["--request-timeout", "300ms"])
    world = World(cluster)
    asked = {name: make(world) for name, make in GOOD.items()}
    cluster.ingestd.stop()
    cluster.exporter.stop()
    wait_until(lambda: world.call("GET", "/readyz").status == 503, "the gateway knows that ingestd is away")
    return SimpleNamespace(world=world, asked=asked)


def limited(cluster, send_wrong):
    """Sends a wrong credential from one address until it is one too many: others of it come back with time."""
    call = Caller(cluster.ports["gateway"], WRONG_FROM)
    return wait_until(lambda: answer if (answer := send_wrong(call)).status != 401 else None, "it was one too many")


def ask(operation, status, get):
    """The answer of an operation that is asked for a status; `get` fetches a fixture."""
    if status in ("500", "502"):
        faulty, world = get("faulty"), get("world")
        code = world.pb.rpc.CODE_INTERNAL if status == "500" else world.pb.rpc.CODE_UNIMPLEMENTED
        faulty.ingestd.code = code
        return send(faulty.call, world, operation, GOOD[operation.id](world))
    if status in ("503", "504"):
        place = get("away" if status == "503" else "silent")
        return send(place.world.call, place.world, operation, place.asked[operation.id])
    world = get("world")
    if status == "429":
        asked = GOOD[operation.id](world)
        asked.token = wrong_credential(operation)
        return limited(world.cluster, lambda caller: send(caller, world, operation, asked))
    make = GOOD.get(operation.id) if status == "200" else SPECIAL.get((operation.id, status))
    asked = make(world) if make else changed(operation, status, world)
    assert asked, f"no call provokes {status} of {operation.id}"
    if status == "200":
        check_request(operation, asked)
    return send(world.call, world, operation, asked)


def check_request(operation, asked):
    """What we send is what the document says to send."""
    body = operation.description.get("requestBody")
    assert (body is not None) == (asked.body is not None), operation.id
    if body and "application/json" in body["content"]:
        validate(asked.body, body["content"]["application/json"]["schema"])
    parameters = {resolve(p)["name"]: resolve(p) for p in operation.description.get("parameters", [])}
    for name in re.findall(r"[?&]([^=]+)=", asked.query):
        assert name in parameters, f"{name} is not in the document"
    for name, parameter in parameters.items():
        if parameter["in"] == "path":
            validate(asked.path_value, parameter["schema"])


def check_answer(answer, status, response):
    assert answer.status == int(status), f"{answer.status} {answer.content[:500]}"
    assert answer.type in response["content"], answer.type
    if answer.type == "application/json":
        validate(answer.json, response["content"][answer.type]["schema"])
    else:
        assert answer.content or answer.type == "application/x-protobuf"
    for name, header in response.get("headers", {}).items():
        header = resolve(header)
        assert not header.get("required") or answer.headers[name], f"{name} is missing"
        if header["schema"]["type"] == "integer":
            validate(int(answer.headers[name]), header["schema"])


@pytest.mark.parametrize("name, status", CASES, ids=[f"{name}-{status}" for name, status in CASES])
def test_every_status_of_every_operation(name, status, request):
    operation = OPERATIONS[name]
    assert name in GOOD, f"nobody calls {name}"
    answer = ask(operation, status, request.getfixturevalue)
    check_answer(answer, status, resolve(operation.description["responses"][status]))


def test_nothing_is_called_that_is_not_documented():
    assert set(GOOD) == set(OPERATIONS)
    assert set(SPECIAL) <= set(CASES)
