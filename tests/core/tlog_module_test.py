"""The module that verifies proofs in browsers does so in node: tlog_module.mjs has its tests."""

import os
import shutil
import subprocess
from importlib import resources
from pathlib import Path

HERE = Path(__file__).parent
STATIC = resources.files("firmtrail.console") / "static"


def test_the_module_of_proofs_passes_its_tests(tmp_path: Path) -> None:
    node = shutil.which("node")
    assert node, "node runs the tests of the browser's modules: install nodejs"
    with resources.as_file(STATIC) as static:
        for script in static.rglob("*.js"):  # a server gives them out as if they were in one folder
            shutil.copy(script, tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    variables = {
        "STATIC_FOLDER": str(tmp_path),
        "VECTORS": str(HERE / "data" / "tlog-vectors.json"),
    }
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", HERE / "tlog_module.mjs"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=os.environ | variables,
    )
    assert done.returncode == 0, done.stdout
    assert "# fail 0" in done.stdout
