"""What `import pumpseg` gives: the names, their examples, and types that a strict checker accepts."""

import doctest
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pumpseg

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = {
    name: tests
    for name in pumpseg.__all__
    if (tests := [test for test in doctest.DocTestFinder().find(getattr(pumpseg, name), name) if test.examples])
}


@pytest.mark.parametrize("name", pumpseg.__all__)
def test_every_public_name_is_there_and_described(name):
    assert name in dir(pumpseg)
    assert getattr(pumpseg, name).__doc__


def test_the_version_is_that_of_the_package():
    assert pumpseg.__version__ == importlib.metadata.version("pumpseg")


def test_what_is_internal_is_not_public():
    assert not {"letterbox", "Letterbox", "Model", "Any", "import_module"} & set(pumpseg.__all__)
    with pytest.raises(AttributeError, match="no attribute 'letterbox'"):
        _ = pumpseg.letterbox


def test_six_public_names_have_an_example():
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of(name):
    for test in EXAMPLES[name]:
        assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import pumpseg, sys; assert not {'numpy', 'cv2', 'typing'} & set(sys.modules); "
        "import pumpseg.cli.video; "
        "heavy = 'tensorflow keras onnx torch onnxruntime av trackers supervision ray PIL'.split(); "
        "assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_leaves_the_video_loop_out():
    code = "import pumpseg, sys; assert not [name for name in sys.modules if name.startswith('pumpseg.video')]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_example_of_the_readme_passes_a_strict_type_check(tmp_path):
    pytest.importorskip("mypy", reason="needs pip install mypy")
    snippets = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert snippets
    for number, snippet in enumerate(snippets):
        (tmp_path / f"snippet_{number}.py").write_text(snippet, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
