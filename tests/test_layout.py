"""The tests mirror the packages: every module has its test file, and no test reaches for a private name."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "runtime/pumpseg": "runtime",
    "train/pumpseg_train": "train",
    "export/pumpseg_export": "export",
    "benchmarks/pumpseg_bench": "benchmarks",
}
# Modules without a test file of their own, and where they are tested.
TESTED_ELSEWHERE = {
    "runtime/pumpseg/__main__.py": "tests/runtime/cli/test_main.py",
    "train/pumpseg_train/dataset/class_ids.py": "two constants",
    "train/pumpseg_train/model/onnx_weights.py": "tests/train/training/test_initial_weights.py",
}


def modules():
    return [
        path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) if path.name != "__init__.py"
    ]


def expected_file(module):
    package = next(package for package in PACKAGES if module.is_relative_to(ROOT / package))
    inside = module.relative_to(ROOT / package)
    return ROOT / "tests" / PACKAGES[package] / inside.parent / f"test_{inside.name}"


def topic_files_of(module):
    """A long test file may be split by topic: test_live_page_access.py, test_live_page_frames.py, ..."""
    whole = expected_file(module)
    return [whole, *whole.parent.glob(f"{whole.stem}_*.py")]


@pytest.mark.parametrize("module", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_has_a_test_file(module):
    name = module.relative_to(ROOT).as_posix()
    has_tests = any(path.is_file() for path in topic_files_of(module))
    if name in TESTED_ELSEWHERE:
        assert not has_tests, f"{name} has a test file: take it off the list"
    else:
        assert has_tests, f"no test file {expected_file(module).relative_to(ROOT)}"


def test_the_list_of_exceptions_is_current():
    names = {module.relative_to(ROOT).as_posix() for module in modules()}
    assert TESTED_ELSEWHERE.keys() <= names


def test_no_test_imports_or_touches_a_private_name():
    assert [use for path in sorted((ROOT / "tests").rglob("*.py")) for use in private_uses(path)] == []


def private_uses(path):
    """Private names of our packages that a test file imports, reads or replaces."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ours = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pumpseg"):
            for alias in node.names:
                ours.add(alias.asname or alias.name)
                if is_private(alias.name):
                    yield f"{place(path, node)}: imports {alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ours and is_private(node.attr):
                yield f"{place(path, node)}: {node.value.id}.{node.attr}"
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node.value.startswith("pumpseg")
            and " " not in node.value
            and any(is_private(part) for part in node.value.split("."))
        ):
            yield f"{place(path, node)}: {node.value}"


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def place(path, node):
    return f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
