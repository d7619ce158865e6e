"""The first error of a batch is raised again as it was."""

import pytest

from pumpseg_train.samples.error_capture import ErrorCapturingBatches


class FailingBatches(ErrorCapturingBatches):
    def batch(self, step):
        raise LookupError(f"batch {step}")


def test_an_error_that_a_backend_wraps_is_raised_as_it_was():
    batches = FailingBatches()
    with pytest.raises(LookupError, match="batch 3"), batches.original_error():
        for step in (3, 4):
            with pytest.raises(LookupError):
                batches[step]
        raise RuntimeError("what the backend makes of it")


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="of its own"), FailingBatches().original_error():
        raise RuntimeError("of its own")
