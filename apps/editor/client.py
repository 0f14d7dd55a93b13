"""Write a line into a document from Python, as any client of Yjs does.

python apps/editor/client.py ws://127.0.0.1:8000/documents/welcome
"""

import asyncio
import sys

from pycrdt import Doc, Text, create_sync_message, create_update_message, handle_sync_message
from websockets.asyncio.client import connect


async def main(url: str) -> None:
    """Join, take what there is, write, and print all of it."""
    doc: Doc[Text] = Doc()
    text = doc.get("content", type=Text)
    async with connect(url) as socket:
        await socket.send(create_sync_message(doc))
        has_all = False
        while not has_all:
            message = await socket.recv(decode=False)
            if message[0] == 0 and (answer := handle_sync_message(message[1:], doc)):
                await socket.send(answer)
            has_all = message[:2] == b"\x00\x01"
        before = doc.get_state()
        text += "Hello from Python\n"
        await socket.send(create_update_message(doc.get_update(before)))
    print(text)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
