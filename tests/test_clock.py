"""Times at the edges: written and read back, and what is no time."""

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standwatch.pipeline.clock import parse_rfc3339, rfc3339
from standwatch.pipeline.errors import BadInput
from tests.questions_world import UNTIMED

YEAR_1000, YEAR_10000 = -30_610_224_000_000, 253_402_300_800_000
TIMES = st.integers(YEAR_1000, YEAR_10000 - 1)


@UNTIMED
@given(TIMES)
def test_what_is_written_is_read_back(at_ms: int) -> None:
    assert parse_rfc3339(rfc3339(at_ms), "at") == at_ms


@UNTIMED
@given(TIMES, TIMES)
def test_written_times_sort_as_the_times_do(one_ms: int, other_ms: int) -> None:
    assert (rfc3339(one_ms) < rfc3339(other_ms)) == (one_ms < other_ms)


@UNTIMED
@given(st.datetimes(min_value=datetime(1900, 1, 1), timezones=st.just(timezone.utc)))
def test_a_time_is_read_as_python_reads_it(at: datetime) -> None:
    whole = at.replace(microsecond=at.microsecond // 1000 * 1000)
    read = parse_rfc3339(at.isoformat(timespec="microseconds"), "at")
    assert read == round(whole.timestamp() * 1000)


def test_a_time_is_written_with_milliseconds_and_z() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1_795_253_400_250) == "2026-11-21T09:30:00.250Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-21T09:30:00Z",
        "2026-11-21t09:30:00z",
        "2026-11-21 09:30:00Z",
        "2026-11-21T09:30:00.000999Z",
        "2026-11-21T10:30:00+01:00",
        "2026-11-21T04:00:00-05:30",
    ],
)
def test_one_moment_may_be_written_in_many_ways(text: str) -> None:
    assert parse_rfc3339(text, "at") == 1_795_253_400_000


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "1795253400", "2026-11-21", "2026-11-21T09:30:00", "2026-11-21T09:30Z", "2026-11-21T09:30:00.Z"),
        *("2026-11-21T09:30:00+0100", " 2026-11-21T09:30:00Z", "2026-11-21T09:30:00Z\n", "26-11-21T09:30:00Z"),
    ],
)
def test_what_is_no_rfc_3339_time_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(BadInput, match=r"^--start: .*write for example 2026-11-21T09:30:00Z"):
        parse_rfc3339(text, "--start")


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-21T25:00:00Z",
        "2026-11-21T09:61:00Z",
        "2026-11-21T09:30:00+24:00",
        "0000-01-01T00:00:00Z",
    ],
)
def test_a_day_or_hour_that_does_not_exist_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"at: .*is not a real time"):
        parse_rfc3339(text, "at")
