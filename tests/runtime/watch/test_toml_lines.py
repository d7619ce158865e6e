"""Keys of a TOML text, and the lines that give them."""

import pytest

from pumpseg.watch.toml_lines import line_of

TEXT = '''# a comment

[model]
file = "x"

[[camera]]
name = "a"
polygon = [
  [0, 0],

  [1, 1],
]
[[camera.zone]]
text = """
[[camera]]
name = 3
"""
after = 1
[[camera]]
name = "b\u2028c"
dotted.key.here = 3
inline = { first = 1, second = 2 }
'''


@pytest.mark.parametrize(
    ("key", "line"),
    [
        (("model",), 3),
        (("model", "file"), 4),
        (("camera",), 6),
        (("camera", 0, "name"), 7),
        (("camera", 0, "polygon"), 8),
        (("camera", 0, "polygon", 1, 0), 8),
        (("camera", 0, "zone", 0), 13),
        (("camera", 0, "zone", 0, "text"), 14),
        (("camera", 0, "zone", 0, "after"), 18),
        (("camera", 1), 19),
        (("camera", 1, "dotted", "key"), 21),
        (("camera", 1, "inline", "second"), 22),
        # What is missing is reported where it should be.
        (("camera", 1, "missing"), 19),
        (("model", "file", "no table"), 4),
        (("missing",), 1),
    ],
)
def test_the_line_of_a_key(key, line):
    assert line_of(TEXT, key) == line


def test_a_large_file_is_searched_in_a_moment():
    text = "".join(f"key{number} = {number}\n" for number in range(3000))
    assert line_of(text, ("key2500",)) == 2501
