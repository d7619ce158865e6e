import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from pumpseg.errors import PumpsegError

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.fixture(scope="module")
def compare():
    spec = importlib.util.spec_from_file_location("compare", PEERS / "compare.py")
    module = sys.modules["compare"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["compare"]


@pytest.mark.parametrize("name", ["peers", "mrcnn"])
def test_the_table_goes_between_its_markers(compare, name):
    readme = compare.README.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: made by peers/run.py -->", f"<!-- end of {name} -->"
    changed = compare.insert(readme, "new", name)
    assert f"{begin}\n\nnew\n\n{end}" in changed
    assert compare.insert(changed, "new", name) == changed
    assert changed.split(begin)[0] == readme.split(begin)[0]
    assert changed.split(end)[1] == readme.split(end)[1]
    with pytest.raises(PumpsegError, match="once each"):
        compare.insert("no markers", "new", name)


def test_the_ratio_of_rows_that_took_turns(compare):
    rng = np.random.default_rng(0)
    mood = rng.gamma(4, 1, (10, 1))
    base = mood * rng.uniform(9, 11, (10, 6))
    ratio, low, high = compare.ratio_interval(3 * base, base)
    assert ratio == pytest.approx(3)
    # The machine's mood is common to both, so it leaves no doubt about their ratio.
    assert low == pytest.approx(3)
    assert high == pytest.approx(3)


def test_a_row_of_the_table(compare, frames):
    rows = [compare.Contender(name, "384", 1, (), "") for name in ("pumpseg fast", "peer")]
    for factor, row in enumerate(rows, 1):
        row.latency, row.session, row.instances = [[10.0 * factor] * 3] * 4, [[9.0 * factor] * 3] * 4, 24
    text = compare.table([rows], frames, "demo", "peer 1.0", 0.0)
    assert "12 measured of each row" in text
    assert "| 1 | pumpseg fast | 384 | 10.0 (10.0–10.0) | 9.0 | 1 | 2.0 |" in text
    assert "| 1 | peer | 384 | 20.0 (20.0–20.0) | 18.0 | 2.00 (2.00–2.00) | 2.0 |" in text
    assert "machine was busy" not in text
    assert "machine was busy" in compare.table([rows], frames, "demo", "peer 1.0", 9.0)
