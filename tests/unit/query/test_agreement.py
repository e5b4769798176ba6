"""Agreement against published examples, and a reason wherever a measure is not defined."""

from __future__ import annotations

import sys

import pytest

from loopgrid_query.errors import NotInstalled
from loopgrid_query.review.agreement import ABSENT, Said, agreement, measures


def table(*rows: str) -> dict[str, dict[str, str]]:
    """One row per rater, one letter per item, a dot where the rater said nothing."""
    return {
        str(item): {f"r{rater}": letter for rater, row in enumerate(rows) if (letter := row[item]) != "."}
        for item in range(len(rows[0]))
    }


def test_cohens_kappa_of_the_textbook_table_of_fifty_grant_proposals():
    """20 both yes, 5 and 10 disagreed, 15 both no: 0.4."""
    found = measures(
        table("y" * 20 + "y" * 5 + "n" * 10 + "n" * 15, "y" * 20 + "n" * 5 + "y" * 10 + "n" * 15)
    )

    assert found["cohens_kappa"][0]["value"] == pytest.approx(0.4)
    assert found["raw_agreement"]["value"] == pytest.approx(0.7)
    assert found["ratings"] == {"n": 45, "y": 55}


def test_krippendorffs_alpha_of_his_own_example_with_missing_values():
    """Krippendorff (2011), nominal data of four observers about twelve units: 0.743."""
    found = measures(table("123321412...", "1233224125.3", ".3332342251.", "12332441251."))

    assert found["krippendorff_alpha"]["value"] == pytest.approx(0.743, abs=0.001)


def test_fleiss_kappa_of_his_example_with_fourteen_raters():
    """Ten subjects, five categories: 0.210."""
    counts = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    words = ["".join(word * count for word, count in zip("abcde", row, strict=True)) for row in counts]
    ratings = {
        str(item): {f"r{rater}": word for rater, word in enumerate(said)} for item, said in enumerate(words)
    }

    assert measures(ratings)["fleiss_kappa"]["value"] == pytest.approx(0.210, abs=0.001)


def test_where_everybody_says_the_same_agreement_is_full_and_the_coefficients_are_undefined():
    found = measures(table("yyy", "yyy"))

    assert found["raw_agreement"]["value"] == 1.0
    for one in (found["cohens_kappa"][0], found["fleiss_kappa"], found["krippendorff_alpha"]):
        assert one["value"] is None
        assert "the same" in one["reason"]
        assert (one["items"], one["raters"]) == (3, 2)


def test_items_that_one_person_rated_say_nothing_about_agreement():
    found = measures(table("yn", ".."))

    assert (found["items"], found["raters"], found["cohens_kappa"]) == (0, 0, [])
    for name in ("raw_agreement", "fleiss_kappa", "krippendorff_alpha"):
        assert found[name]["value"] is None
        assert "two or more" in found[name]["reason"]


def test_two_who_never_rated_the_same_item_have_no_kappa_and_that_is_said():
    pairs = measures(table("yn..", "ynyn", "..yn"))["cohens_kappa"]

    apart = next(one for one in pairs if one["reviewers"] == ["r0", "r2"])
    assert (apart["value"], apart["reason"]) == (None, "no item was rated by both")


def test_corrected_counts_as_incorrect_and_fields_are_compared_by_their_place():
    one, other = {"action": "refund", "to": {"name": "Ann"}}, {"action": "refund", "to": {}, "note": [1, 2]}
    found = agreement(
        [
            Said("d1", "ann", "correct", one, known=True),
            Said("d1", "bob", "corrected", other, known=True),
            Said("d2", "ann", "incorrect"),
            Said("d2", "bob", "corrected", "plain text", known=True),
        ]
    )

    assert found["verdict"]["ratings"] == {"correct": 1, "incorrect": 3}
    assert found["verdict"]["raw_agreement"]["value"] == 0.5
    assert {name: one["ratings"] for name, one in found["fields"].items()} == {
        "/action": {'"refund"': 2},
        "/note": {ABSENT: 1, "[1, 2]": 1},
        "/to": {ABSENT: 1, "{}": 1},
        "/to/name": {ABSENT: 1, '"Ann"': 1},
    }


def test_without_the_extra_it_says_which_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "krippendorff", None)

    with pytest.raises(NotInstalled, match="extra `review`"):
        agreement([])
