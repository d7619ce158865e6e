"""Writes what the shipped models find in the doctor's picture; run it after they have changed.

python tests/runtime/doctor/store_results.py
"""

import json

from pumpseg.doctor.models import NAMES, PICTURE, STORED, find
from pumpseg.images import read_image

if __name__ == "__main__":
    picture = read_image(PICTURE)
    found = {name: find(name, picture) for name in NAMES}
    STORED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
