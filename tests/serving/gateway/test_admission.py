"""Law of admission: at most so many at once, and a place is free again however its call ended."""

from __future__ import annotations

import pytest

from serving.errors import LimitExceeded
from serving.gateway.admission import Admission


def test_one_more_than_allowed_is_refused_by_the_limits_name() -> None:
    admission = Admission(2, "max_in_flight")
    with admission, admission:
        assert admission.in_flight == 2
        with pytest.raises(LimitExceeded, match="max_in_flight=2") as caught, admission:
            pass
        assert caught.value.retry_after_s
    with pytest.raises(KeyError), admission:
        raise KeyError
    assert admission.in_flight == 0
