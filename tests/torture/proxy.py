"""A TCP proxy that can slow down, cut and hold what passes through it."""
import asyncio
import threading
from urllib.parse import urlsplit

from harness import free_port

CHUNK = 16384


class Proxy:
    """In front of one URL. Threads: it runs in one of its own; the methods are called from others."""

    def __init__(self, target):
        address = urlsplit(target)
        self.target = (address.hostname, address.port)
        self.url = f"tcp://127.0.0.1:{free_port()}"
        self.bytes_per_s = None  # None: as fast as it goes
        self.open = True
        self.passed = 0  # bytes from the target
        self._writers = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def __enter__(self):
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_):
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self):
        """Closes every connection, and takes no new one until restore()."""
        self.open = False
        self._run(self._close_all())

    def restore(self):
        self.open = True

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _listen(self):
        # A small window, so that what is throttled waits at the sender and not in buffers between.
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", urlsplit(self.url).port, limit=CHUNK)

    async def _end(self):
        self._server.close()
        await self._close_all()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _close_all(self):
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader, writer):
        if not self.open:
            writer.transport.abort()
            return
        try:
            to_reader, to_writer = await asyncio.open_connection(*self.target, limit=CHUNK)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, to_writer}
        self._writers |= ends
        try:
            if self.open:
                await asyncio.gather(self._copy(reader, to_writer, False), self._copy(to_reader, writer, True))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _copy(self, reader, writer, from_target):
        try:
            while data := await reader.read(CHUNK):
                writer.write(data)
                await writer.drain()
                if from_target:
                    self.passed += len(data)
                    if self.bytes_per_s:
                        await asyncio.sleep(len(data) / self.bytes_per_s)
        except OSError:
            pass
        finally:
            writer.transport.abort()
