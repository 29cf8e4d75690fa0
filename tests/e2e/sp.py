"""The SP protocol over TCP (REQ and SUB sides) in plain Python: what any language needs to be an agent.

A connection starts with 8 bytes each way: 00 'S' 'P' 00, the protocol number (2 bytes), 00 00. Then messages, each
with its length in front (8 bytes). A REQ message starts with a request id whose highest bit is set; the REP message
that answers it starts with the same id. A SUB side filters what it gets by itself.
"""
import itertools
import socket
import struct
import zlib
from urllib.parse import urlsplit

REQ, REP, PUB, SUB = 0x30, 0x31, 0x20, 0x21


class Closed(Exception):
    """The other side closed the connection."""


class SpSocket:
    """source: the address to call from."""

    def __init__(self, url, protocol, timeout=10, source=None):
        address = urlsplit(url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=timeout,
                                               source_address=(source, 0) if source else None)
        self.socket.sendall(b"\0SP\0" + struct.pack(">HH", protocol, 0))
        hello = self._read(8)
        assert hello[:4] == b"\0SP\0", hello
        self.peer = struct.unpack(">H", hello[4:6])[0]

    def _read(self, n):
        data = bytearray()
        while len(data) < n:
            try:
                part = self.socket.recv(n - len(data))
            except ConnectionResetError as error:
                raise Closed from error
            if not part:
                raise Closed
            data += part
        return bytes(data)

    def send(self, message):
        try:
            self.socket.sendall(struct.pack(">Q", len(message)) + message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def receive(self):
        (length,) = struct.unpack(">Q", self._read(8))
        assert length <= 64 << 20, length
        return self._read(length)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Req(SpSocket):
    """The REQ side: one request at a time."""

    def __init__(self, url, timeout=10, source=None):
        super().__init__(url, REQ, timeout, source)
        assert self.peer == REP, self.peer
        self.ids = itertools.count(1)

    def call_raw(self, message):
        request_id = struct.pack(">I", 0x80000000 | next(self.ids))
        self.send(request_id + message)
        answer = self.receive()
        assert answer[:4] == request_id
        return answer[4:]


class RpcError(Exception):
    def __init__(self, response, name):
        super().__init__(f"{name}: {response.message}")
        self.code = name
        self.message = response.message
        self.response = response


class Rpc:
    """Calls services (rpc.proto). `pb` holds the generated modules: pb.rpc, pb.ingest and so on."""

    def __init__(self, url, pb, bearer=None, timeout=10, source=None):
        self.pb = pb
        self.bearer = bearer
        self.req = Req(url, timeout, source)

    def close(self):
        self.req.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def envelope(self, method, body, compress=False, timeout_ms=0):
        request = self.pb.rpc.Request(method=method, timeout_ms=timeout_ms)
        if self.bearer is not None:
            request.authorization = "Bearer " + self.bearer
        if compress:
            request.encoding = self.pb.rpc.ENCODING_ZLIB
            request.size = len(body)
            body = zlib.compress(body, 1)
        request.body = body
        return request

    def send(self, request):
        """Sends an envelope (a message or raw bytes) and returns the Response as it is."""
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        response = self.pb.rpc.Response()
        response.ParseFromString(self.req.call_raw(raw))
        return response

    def call_bytes(self, method, body, **options):
        response = self.send(self.envelope(method, body, **options))
        if response.code != self.pb.rpc.CODE_OK:
            raise RpcError(response, self.pb.rpc.Code.Name(response.code).removeprefix("CODE_"))
        body = response.body
        if response.encoding == self.pb.rpc.ENCODING_ZLIB:
            body = zlib.decompress(body)
            assert len(body) == response.size
        return body

    def call(self, method, request, response_type, **options):
        response = response_type()
        response.ParseFromString(self.call_bytes(method, request.SerializeToString(), **options))
        return response

    def submit(self, request, **options):
        body = request if isinstance(request, bytes) else request.SerializeToString()
        response = self.pb.ingest.SubmitResponse()
        response.ParseFromString(self.call_bytes("/tobogganing.v1.Ingest/Submit", body, **options))
        return response
