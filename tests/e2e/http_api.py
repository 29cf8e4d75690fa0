"""The gateway's HTTP API, as the tests call it: requests written by hand where a library would mend or hide something."""
import http.client
import json
import socket
from types import SimpleNamespace

DEADLINE = 60.0


class Caller:
    """Sends requests to one gateway."""

    def __init__(self, port, source=None):
        self.port = port
        self.source = (source, 0) if source else None

    def __call__(self, method, path, token=None, body=None, headers=None, length=True):
        """`path` is sent as it is. `body`: a value becomes JSON; None: no body, and Content-Length: 0 for a POST.
        length=False: neither Content-Length nor a body."""
        all_headers = {}
        if token is not None:
            all_headers["Authorization"] = f"Bearer {token}"
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        if data is not None:
            all_headers["Content-Type"] = "application/json"
        if length and (data is not None or method in ("POST", "PUT", "PATCH")):
            all_headers["Content-Length"] = str(len(data or b""))
        all_headers.update(headers or {})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE, source_address=self.source)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in all_headers.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(data if length else None)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        return answer(response, content)

    def raw(self, request):
        """Sends bytes and returns all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            parts = []
            while part := connection.recv(65536):
                parts.append(part)
        return b"".join(parts)


def answer(response, content):
    kind = (response.headers.get("Content-Type") or "").split(";")[0].strip()
    value = json.loads(content) if kind == "application/json" and content else None
    return SimpleNamespace(status=response.status, headers=response.headers, content=content, type=kind, json=value)
