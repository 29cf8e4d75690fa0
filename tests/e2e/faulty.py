"""An ingestd that answers whatever a test wants, over the real protocol: for what the real one only says when it is broken."""
import socket
import struct
import threading

from sp import REP


class FaultyIngestd:
    """Answers every call with `code`."""

    def __init__(self, pb, code=None):
        self.pb = pb
        self.code = code if code is not None else pb.rpc.CODE_INTERNAL
        self.retry_after_ms = 0
        self.methods = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "tcp://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()
        for connection in self.connections:
            connection.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            connection.sendall(b"\0SP\0" + struct.pack(">HH", REP, 0))
            self._read(connection, 8)
            while True:
                (length,) = struct.unpack(">Q", self._read(connection, 8))
                message = self._read(connection, length)
                request = self.pb.rpc.Request.FromString(message[4:])
                self.methods.append(request.method)
                response = self.pb.rpc.Response(code=self.code, message="faulty", retry_after_ms=self.retry_after_ms)
                answer = message[:4] + response.SerializeToString()
                connection.sendall(struct.pack(">Q", len(answer)) + answer)
        except OSError:
            pass

    @staticmethod
    def _read(connection, n):
        data = b""
        while len(data) < n:
            part = connection.recv(n - len(data))
            if not part:
                raise OSError("closed")
            data += part
        return data
