"""What commands leave behind."""

import re


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_error(result, message):
    code, err = result
    assert code == 2
    lines = [line for line in err.splitlines() if not line.startswith("pumpseg-video: provider")]
    assert len(lines) == 1, err
    assert lines[0].startswith("pumpseg-video: error: ")
    assert re.search(message, lines[0]), lines[0]
