"""Lines of JSON between a job and whoever started it: no pickle, and no message is cut."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

PIECE = 1 << 16


class Channel:
    """One end of a stream socket. What the other end sends is data."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._rest = b""
        self.is_open = True

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, **message: Any) -> bool:
        """False where nobody is there any more."""
        try:
            self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self) -> dict[str, Any] | None:
        """Waits for the next message; None where there will be none."""
        while True:
            for message in self._take_one():
                return message
            if not self.is_open:
                return None
            self._read(0)

    def messages(self) -> Iterator[dict[str, Any]]:
        """Those that have come, without waiting; `is_open` is false after the last of all."""
        with suppress(BlockingIOError):
            while self.is_open:
                self._read(socket.MSG_DONTWAIT)
        while found := list(self._take_one()):
            yield from found

    def _take_one(self) -> Iterator[dict[str, Any]]:
        line, end, rest = self._rest.partition(b"\n")
        if end:
            self._rest = rest
            yield json.loads(line)

    def _read(self, flags: int) -> None:
        piece = b""
        with suppress(ConnectionResetError):
            piece = self.socket.recv(PIECE, flags)
        self._rest += piece
        self.is_open = bool(piece)

    def close(self) -> None:
        self.is_open = False
        self.socket.close()
