"""A chaos proxy for one hop: delay, refuse, blackhole, reset or cut after so many bytes, drip. Switched while it runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from tests.harness.background import Background

Fate = Literal["pass", "refuse", "blackhole", "reset", "cut"]


@dataclass(slots=True)
class Weather:
    """What happens to connections. ``after_bytes`` of the answers pass before ``reset`` or ``cut`` strikes. Seconds, bytes."""

    fate: Fate = "pass"
    delay_s: float = 0.0
    after_bytes: int = 0
    drip_bytes: int = 0


@dataclass(slots=True)
class ChaosProxy:
    """Forwards loopback TCP to ``to_port``. Setting ``weather`` applies to every next piece, open connections included."""

    background: Background
    to_port: int
    weather: Weather = field(default_factory=Weather)
    port: int = 0
    connections: int = 0
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def start(self) -> ChaosProxy:
        self.background.run(self._listen())
        return self

    def set(self, fate: Fate = "pass", *, delay_s: float = 0.0, after_bytes: int = 0, drip_bytes: int = 0) -> None:
        self.weather = Weather(fate, delay_s, after_bytes, drip_bytes)

    def drop_all(self) -> None:
        """Reset every open connection."""
        self.background.loop.call_soon_threadsafe(self._abort_all)

    def stop(self) -> None:
        self.background.run(self._close())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._abort_all()

    def _abort_all(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            if self.weather.fate == "refuse":
                writer.transport.abort()
                return
            back, onward = await asyncio.open_connection("127.0.0.1", self.to_port)
            self._writers.add(onward)
            await asyncio.gather(self._pump(reader, onward, spoiled=False), self._pump(back, writer, spoiled=True))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in (writer, onward):
                if one is not None:
                    self._writers.discard(one)
                    one.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, spoiled: bool) -> None:
        passed = 0
        while piece := await reader.read(65_536):
            weather = self.weather
            await asyncio.sleep(weather.delay_s)
            while self.weather.fate == "blackhole":
                await asyncio.sleep(0.05)
            if spoiled and weather.fate in ("reset", "cut") and passed + len(piece) > weather.after_bytes:
                writer.write(piece[: max(0, weather.after_bytes - passed)])
                await writer.drain()
                self._strike(reader, writer, weather.fate)
                return
            await self._forward(writer, piece, weather.drip_bytes if spoiled else 0)
            passed += len(piece)
        if writer.can_write_eof():
            writer.write_eof()

    def _strike(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fate: Fate) -> None:
        if fate == "reset":
            writer.transport.abort()
        else:
            writer.close()

    async def _forward(self, writer: asyncio.StreamWriter, piece: bytes, drip_bytes: int) -> None:
        step = drip_bytes or len(piece)
        for start in range(0, len(piece), step):
            writer.write(piece[start : start + step])
            await writer.drain()
            if drip_bytes:
                await asyncio.sleep(0.02)
