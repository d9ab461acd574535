"""An endpoint that only waits: each completion comes after so many seconds and says something of its own.

    python -m bench.caption.server LATENCY_S       # prints its address, and serves until its input ends

As cheap as may be, for it runs beside what is measured: of a request it reads where it ends and nothing else.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys

MODEL = "waits"
_USAGE = {"prompt_tokens": 900, "completion_tokens": 20, "total_tokens": 920}


def main() -> None:
    asyncio.run(_serve(float(sys.argv[1])))


async def _serve(latency_s: float) -> None:
    numbers = itertools.count()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if head.startswith(b"post"):
                    await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
                    await asyncio.sleep(latency_s)
                    body = _completion(next(numbers))
                else:
                    body = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode()
                about = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write(about.encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)


def _completion(number: int) -> bytes:
    text = f"A man walks past house number {number} while the sun sets behind the hills."
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return json.dumps({"id": f"c-{number}", "model": MODEL, "choices": [choice], "usage": _USAGE}).encode()


if __name__ == "__main__":
    main()
