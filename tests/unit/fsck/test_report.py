"""Goal: a report is bounded, counts all, and says so in JSON. Method: as a check fills it."""

from __future__ import annotations

import msgspec

from dfs.fsck.report import LISTED_MAX, Problems, Report, ignore_progress


def _report(problems: Problems) -> Report:
    report = Report()
    problems.write_to(report)
    return report


def test_warnings_only_are_clean() -> None:
    problems = Problems()
    problems.add("I1 block copies", "/f", "few copies", is_error=False)
    report = _report(problems)
    assert report.is_clean
    assert report.errors == []
    assert (report.error_count, report.warning_count) == (0, 1)


def test_errors_are_not_clean() -> None:
    problems = Problems()
    problems.add("link counts", "/f", "nlink 2, counted 1")
    report = _report(problems)
    assert not report.is_clean
    assert report.errors == report.problems
    assert (report.error_count, report.warning_count) == (1, 0)


def test_many_problems_are_counted_and_not_all_listed() -> None:
    problems = Problems()
    for number in range(LISTED_MAX + 7):
        problems.add("link counts", f"/f{number}", "wrong")
    problems.add("I1 block copies", "/f", "few copies", is_error=False)
    report = _report(problems)
    assert report.error_count == LISTED_MAX + 7
    assert report.warning_count == 1
    assert len(report.problems) == LISTED_MAX + 2
    assert report.problems[-1].message == "7 more like these"
    assert report.problems[-1].is_error


def test_json_has_every_number() -> None:
    problems = Problems()
    problems.add("link counts", "/f", "wrong")
    report = _report(problems)
    document = msgspec.json.decode(msgspec.json.encode(report))
    assert document["error_count"] == 1
    assert document["problems"] == [
        {"check": "link counts", "subject": "/f", "message": "wrong", "is_error": True}
    ]
    assert set(document) == set(Report.__struct_fields__)


def test_reports_do_not_share_lists() -> None:
    Report().repaired.append("x")
    assert Report().repaired == []
    ignore_progress("records", 1, None)
