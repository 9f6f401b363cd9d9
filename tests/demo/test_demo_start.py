"""Where the demo can be started, and what it says where it cannot be as wished."""

from __future__ import annotations

import errno
import importlib.util
import socket
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bff.demo import world

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.row("OPS-1")
def test_a_port_that_this_user_may_not_open_is_told_apart_from_one_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo moves to a free port either way, and looking for another program at port 80 would be in vain."""
    create = socket.create_server

    def refuse(address: tuple[str, int], **more: Any) -> socket.socket:
        if address[1] == 80:
            raise PermissionError(errno.EACCES, "Permission denied")
        return create(address, **more)

    with socket.create_server(("127.0.0.1", 0)) as busy:
        taken = busy.getsockname()[1]
        sock, why = world._bind("localhost", taken)
        sock.close()
        assert (why, sock.fileno()) == ("is taken", -1)
    monkeypatch.setattr(socket, "create_server", refuse)
    sockets, moved = world._bind_all(80)
    for one in sockets:
        one.close()
    assert moved[0].startswith("port 80 is not for this user to open") and "so the app is on port " in moved[0]


@pytest.fixture
def dev() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dev_of_another_clone", ROOT / "dev.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("refused", ["mkdir", "open"])
def test_a_clone_that_is_not_writable_gets_one_sentence(
    dev: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """Somebody else's clone, or one on a medium that is read only."""

    done = getattr(Path, refused)

    def refuse(path: Path, *given: Any, **named: Any) -> Any:
        if ".tools" in path.parts:
            raise PermissionError(errno.EACCES, "Permission denied")
        return done(path, *given, **named)

    monkeypatch.setattr(dev, "ROOT", tmp_path)
    monkeypatch.setattr(dev, "TOOLS", tmp_path / ".tools")
    (tmp_path / "list.txt").write_text("one")
    monkeypatch.setattr(Path, refused, refuse)
    with pytest.raises(SystemExit) as ended:
        dev.sync(tmp_path / ".venv", tmp_path / "list.txt")
    said = str(ended.value)
    assert str(tmp_path) in said and "Permission denied" in said and said.count("\n") == 0
