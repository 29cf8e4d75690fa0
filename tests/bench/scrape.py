"""One scrape over a plain socket, and what a scrape of the same text costs at the least."""
import socket
import time
import zlib

READ_BYTES = 1 << 20
PIECE_BYTES = 64 << 10  # the exporter compresses in pieces of this size


class Scrape:
    """GET /metrics: when the first byte and the last one came, and the body."""

    def __init__(self, port, token, gzip):
        encoding = "gzip" if gzip else "identity"
        request = (f"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
                   f"Accept-Encoding: {encoding}\r\nConnection: close\r\n\r\n")
        buffer = memoryview(bytearray(READ_BYTES))
        parts = []
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            start = time.perf_counter()
            connection.sendall(request.encode())
            self.first_byte_s = None
            while count := connection.recv_into(buffer):
                if self.first_byte_s is None:
                    self.first_byte_s = time.perf_counter() - start
                parts.append(bytes(buffer[:count]))
            self.seconds = time.perf_counter() - start
        head, _, body = b"".join(parts).partition(b"\r\n\r\n")
        self.status = int(head.split(b" ", 2)[1]) if head else 0
        head = head.lower()
        assert gzip == (b"content-encoding: gzip" in head) or self.status != 200, "not the encoding that was asked for"
        self.body = dechunk(body) if b"transfer-encoding: chunked" in head else body
        self.text = zlib.decompress(self.body, 31) if gzip and self.status == 200 else self.body

    def series(self):
        """Lines that are not comments."""
        return self.text.count(b"\n") - self.text.count(b"\n#") - self.text.startswith(b"#")


def dechunk(body):
    parts, at = [], 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2:end + 2 + size])
        at = end + 2 + size + 2


def repeat(function, seconds):
    """Calls a function for so long, at least three times; returns the CPU seconds of one call."""
    start, count = time.process_time(), 0
    end = time.perf_counter() + seconds
    while count < 3 or time.perf_counter() < end:
        function()
        count += 1
    return (time.process_time() - start) / count


def bare_copy_s(text, seconds):
    """CPU seconds of one memcpy of the text."""
    target = memoryview(bytearray(len(text)))

    def copy():
        target[:] = text
    return repeat(copy, seconds)


def bare_gzip_s(text, seconds):
    """CPU seconds of zlib alone, level 1, over the text."""
    pieces = [text[i:i + PIECE_BYTES] for i in range(0, len(text), PIECE_BYTES)]

    def compress():
        stream = zlib.compressobj(1, zlib.DEFLATED, 31)
        for piece in pieces:
            stream.compress(piece)
        stream.flush()
    return repeat(compress, seconds)
