"""`python -m pumpseg` is the command `pumpseg`."""

import sys

from pumpseg.cli.main import pumpseg

sys.exit(pumpseg())
