"""The page that a failure is exported as says nothing that is not known."""

from __future__ import annotations

from dataclasses import replace

from gpuwatch.faces.tui.export import incident_page
from tests.core.cases import AT, incident


def test_a_failure_that_was_seen_has_its_line_and_time() -> None:
    page = incident_page(incident({}))
    assert "line 1 of log" in page
    assert AT.isoformat() in page


def test_of_one_from_before_no_time_is_made_up() -> None:
    page = incident_page(replace(incident({}), fresh=False))
    assert str(AT.year) not in page
    assert "from before gpuwatch was started" in page


def test_one_that_stands_on_no_line_names_none() -> None:
    page = incident_page(replace(incident({}), line=0))
    assert "line 0" not in page
    assert "log" in page.splitlines()[2]
