import os

from pumpseg.atomic_file import complete_file


def test_a_full_folder_is_not_listed_for_every_file(tmp_path, monkeypatch):
    listed = []
    for name in ("listdir", "scandir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path, real=real: (listed.append(path), real(path))[1])
    for i in range(5):
        with complete_file(tmp_path / f"{i}.png") as path:
            path.touch()
    assert len(listed) == 1
