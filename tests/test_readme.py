"""What the README says happens."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
RESULT = "1999 cents for reservation 42\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The README's example in a file of its own."""
    found = re.search(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found is not None
    script = tmp_path / "orders.py"
    script.write_text(found[1])
    return script


def run(script: Path) -> subprocess.CompletedProcess[str]:
    """Run the script as a person would."""
    return subprocess.run([sys.executable, script.name], cwd=script.parent, capture_output=True, text=True, check=False)


def test_example_is_short(script: Path) -> None:
    """The README opens with a complete example of fewer than 25 lines."""
    assert len(script.read_text().splitlines()) < 25


def test_example_runs_once(script: Path) -> None:
    """The example prints its result, and the second time answers with it."""
    source = script.read_text()
    assert run(script).stdout == RESULT

    script.write_text(source.replace("    return f", "    print('again')\n    return f"))
    assert run(script).stdout == RESULT


def test_example_is_killed_and_goes_on(script: Path) -> None:
    """Killed between two steps, the example goes on behind the one that completed."""
    source = script.read_text()
    kill = "    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    script.write_text(source.replace('    return f"{order.cents}', f'{kill}    return f"{{order.cents}}'))
    assert run(script).returncode < 0

    told = source.replace("    return f", "    print('running', order.id, order.cents)\n    return f")
    script.write_text(told)
    assert run(script).stdout == "running 42 1999\n" + RESULT


def test_the_proof_passes(script: Path) -> None:
    """The test that the README shows explores the README's own example and finds it safe."""
    proof = re.search(r"^```\n(def test_.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert proof is not None
    test = script.with_name("test_proof.py")
    test.write_text(f"from orders import Order, process_order\n\n\n{proof[1]}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test.name],
        cwd=script.parent,
        env={**os.environ, "PYTHONPATH": str(script.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout
