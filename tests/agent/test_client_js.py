from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import bff.agent

CLIENT_JS = Path(bff.agent.__file__).parent / "assets" / "client.js"
CASES = Path(__file__).parent / "client_js_test.mjs"


@pytest.mark.node
@pytest.mark.row("ARCH-3", "STEPUP-6")
def test_the_helper_holds_in_node(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        missing = "Node.js is not installed"
        if "node" in os.environ.get("BFF_TEST_REQUIRE", "").split(","):
            pytest.fail(missing)
        pytest.skip(missing)
    module = tmp_path / "client.mjs"
    module.write_text(CLIENT_JS.read_text("utf-8"), encoding="utf-8")
    environment = {**os.environ, "CLIENT_JS": str(module)}
    done = subprocess.run([node, "--test", str(CASES)], env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
