"""The rule of a gate: what it means, what is wrong with it, and that unknown is never a pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopgrid_query.errors import Invalid
from loopgrid_query.replay.gate import MAX_DEPTH, MAX_RULE_CHARS, RuleInvalid, evaluate, parse
from loopgrid_query.replay.gate_names import NAMES
from loopgrid_query.replay.statistics import statistics
from loopgrid_query.report_models import GateVerdict, Item, ItemOutcome, Method, Statistics

QUICK = Method(resamples=199)


def items(
    outcome: ItemOutcome, count: int, *, before: bool | None = None, after: bool | None = None
) -> list[Item]:
    return [
        Item(
            decision_id=f"{outcome}-{number}",
            outcome=outcome,
            truth=before is not None,
            before=before,
            after=after,
            same=before is after,
        )
        for number in range(count)
    ]


def arm(
    *, fixed: int = 0, still_wrong: int = 0, broken: int = 0, kept: int = 0, failed: int = 0
) -> list[Item]:
    """Those that failed were wrong before."""
    return [
        *items(ItemOutcome.FIXED, fixed, before=False, after=True),
        *items(ItemOutcome.STILL_WRONG, still_wrong, before=False, after=False),
        *items(ItemOutcome.NEWLY_BROKEN, broken, before=True, after=False),
        *items(ItemOutcome.UNCHANGED, kept, before=True, after=True),
        *items(ItemOutcome.FAILED, failed, before=False),
    ]


def verdict(rule: str, found: list[Item], control: list[Item] | None = None) -> str:
    return evaluate(parse(rule), statistics(found, control, QUICK)).verdict.value


GOOD = arm(fixed=8, still_wrong=2, kept=20)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("fixed >= 0.8 and newly_broken == 0", "pass"),
        ("fixed >= 80%", "pass"),
        ("fixed > 80%", "fail"),
        ("0.8 <= fixed", "pass"),
        ("still_wrong <= 20%", "pass"),
        ("count(fixed) == 8 and count(still_wrong) == 2", "pass"),
        ("share(unchanged) == 1", "fail"),
        ("share(newly_broken) <= 2%", "pass"),
        ("items == 30 and wrong == 10 and right == 20", "pass"),
        ("not fixed < 0.8", "pass"),
        ("not (fixed >= 0.8 and newly_broken == 0)", "fail"),
        ("fixed >= 0.9 or failed == 0", "pass"),
        ("fixed >= 0.9 or failed == 0 and items > 100", "fail"),
        ("(fixed >= 0.9 or failed == 0) and items > 10", "pass"),
        ("better and not worse", "pass"),
        ("worse", "fail"),
        ("gain > 0 and p_value < 0.05", "pass"),
        ("gain >= -0.05", "pass"),
        ("low(fixed) >= 40% and high(fixed) < 1", "pass"),
        ("fixed > still_wrong", "pass"),
        ("noise <= 5%", "unknown"),
        ("fixed >= 0.8 and noise <= 5%", "unknown"),
        ("fixed >= 0.9 and noise <= 5%", "fail"),
        ("fixed >= 0.8 or noise <= 5%", "pass"),
        ("not noise <= 5%", "unknown"),
    ],
)
def test_a_rule_means_what_it_says(rule, said):
    assert verdict(rule, GOOD) == said


def test_four_fifths_are_four_fifths_and_not_nearly():
    """Shares are compared as fractions: no rounding decides."""
    for wrong in range(1, 60):
        found = arm(fixed=wrong * 7, still_wrong=wrong * 3)
        assert verdict("fixed >= 0.7 and fixed <= 70% and still_wrong == 0.3", found) == "pass"


def test_what_failed_might_have_become_anything_and_unknown_is_no_pass():
    found = arm(fixed=7, still_wrong=1, failed=2)

    assert verdict("fixed >= 0.7", found) == "pass"
    assert verdict("fixed >= 0.8", found) == "unknown"
    assert verdict("fixed >= 0.95", found) == "fail"
    assert verdict("count(still_wrong) <= 2", found) == "unknown"
    assert verdict("failed == 2", found) == "pass"
    assert (
        verdict("newly_broken == 0", [*found, *items(ItemOutcome.NOT_COMPARABLE, 1, before=True)])
        == "unknown"
    )


def test_nothing_to_judge_is_unknown():
    assert verdict("fixed >= 0.8", []) == "unknown"
    assert verdict("better", []) == "unknown"
    assert verdict("not worse", arm(fixed=2)) == "unknown"
    assert verdict("gain >= 0", []) == "unknown"
    assert verdict("low(gain) > 0", arm(fixed=5)) == "unknown"
    assert verdict("low(fixed) > 0", []) == "unknown"


def test_a_control_arm_gives_the_noise_a_value():
    control = items(ItemOutcome.STILL_WRONG, 9, before=False, after=False)
    control += items(ItemOutcome.FIXED, 1, before=False, after=True)

    assert verdict("noise == 10% and flipped <= 10% and fixed > noise", GOOD, control) == "pass"


def test_each_clause_is_explained_and_the_deciding_ones_are_why():
    gate = evaluate(
        parse("fixed >= 0.8 and newly_broken == 0"), statistics(arm(fixed=8, broken=1, failed=1), None, QUICK)
    )

    assert [(clause.text, clause.column, clause.verdict) for clause in gate.clauses] == [
        ("fixed >= 0.8", 1, GateVerdict.PASS),
        ("newly_broken == 0", 18, GateVerdict.FAIL),
    ]
    assert gate.clauses[0].why == (
        "it is 88.89% to 100% (8 to 9 of 9 that were wrong); 1 failed or cannot be compared"
    )
    assert gate.why == "newly_broken == 0: it is 1 of 1 that were right."


def test_what_is_not_known_says_what_is_missing():
    gate = evaluate(parse("better and noise < 1%"), statistics(arm(fixed=2), None, QUICK))

    assert "more needed" in gate.clauses[0].why
    assert "there is no control arm" in gate.clauses[1].why


@pytest.mark.parametrize(
    ("rule", "column", "said"),
    [
        ("", 1, "the rule ends here"),
        ("fixd >= 0.8", 1, "did you mean 'fixed'?"),
        ("fixed >= 0.8 and newlybroken == 0", 18, "did you mean 'newly_broken'?"),
        ("xyzzy > 1", 1, "there are fixed, still_wrong"),
        ("fixed >= 8", 10, "write count(fixed)"),
        ("newly_broken <= 2%", 17, "write share(newly_broken)"),
        ("newly_broken <= 0.5", 17, "a whole number"),
        ("failed == -1", 11, "never negative"),
        ("p_value < 5", 11, "from 0 to 1"),
        ("fixed = 0.8", 7, "write '==' for '='"),
        ("fixed => 0.8", 7, "write '>=' for '=>'"),
        ("fixed ≥ 0.8", 7, "write '>='"),
        ("fixed >= 0.8 && failed == 0", 14, "write 'and' for '&&'"),
        ("fixed >= 0.8 AND failed == 0", 14, "write 'and' for 'AND'"),
        ("!better", 1, "write 'not' for '!'"),
        ("fixed >= 0.8 failed == 0", 14, "'and', 'or' or the end"),
        ("fixed", 6, "one of >= <="),
        ("fixed >=", 9, "a name or a number"),
        ("fixed >= and", 10, "a name or a number"),
        ("(fixed >= 1", 12, "a ) for the ( in column 1"),
        ("fixed >= 1)", 11, "closes nothing"),
        ("1 > 0", 1, "a clause must name something"),
        ("0.5 <= fixed <= 0.9", 14, "one comparison a clause"),
        ("better == 1", 8, "write it alone"),
        ("1 == better", 1, "write it alone"),
        ("fixed > better", 9, "write it alone"),
        ("fixed > newly_broken", 9, "is a share here and 'newly_broken' is a count"),
        ("share(gain) > 0", 7, "has no share()"),
        ("low(items) > 0", 5, "has no low()"),
        ("share newly_broken > 1", 7, "in parentheses"),
        ("share(newly_broken > 1", 20, "a ) after newly_broken"),
        ("fixed $ 3", 7, "'$' means nothing"),
        ("__import__(os)", 1, "there is no name '__import__'"),
        ("fixed['x']", 6, "'[' means nothing"),
        ("fixed >= 1e9", 11, "'e9' stands here"),
        ("(" * (MAX_DEPTH + 1) + "better", MAX_DEPTH + 1, "nests at most"),
        ("better or " * 300 + "better", MAX_RULE_CHARS, "at most 2000 characters"),
    ],
)
def test_a_rule_that_cannot_be_read_says_in_which_column_and_what_would_be_right(rule, column, said):
    with pytest.raises(RuleInvalid) as raised:
        parse(rule)

    assert raised.value.column == column
    assert said in str(raised.value)
    assert f"column {column}: " in str(raised.value)
    assert raised.value.pointed().split("\n")[1].index("^") == column - 1


def test_the_nearest_name_is_a_suggestion_of_its_own():
    with pytest.raises(Invalid) as raised:
        parse("fixd > 50%")

    assert (raised.value.errors[0].field, raised.value.errors[0].suggestion) == ("rule", "fixed")


@given(
    st.text()
    | st.lists(
        st.sampled_from([*NAMES, "and", "or", "not", "(", ")", ">=", "==", "0.5", "1", "50%", "low"])
    ).map(" ".join)
)
def test_any_text_is_a_rule_with_a_verdict_or_says_where_it_goes_wrong(text):
    wrong: RuleInvalid | None = None
    try:
        gate = evaluate(parse(text), FOUND)
    except RuleInvalid as error:
        wrong = error
    if wrong is not None:
        assert 1 <= wrong.column <= len(text) + 1
    else:
        assert gate.clauses
        assert all(clause.text in text for clause in gate.clauses)


FOUND: Statistics = statistics(GOOD, None, QUICK)

rules = st.recursive(
    st.sampled_from(
        ["fixed >= 0.8", "newly_broken == 0", "better", "noise < 5%", "count(fixed) >= 3", "gain > 0"]
    ),
    lambda inner: st.one_of(
        inner.map("not ({})".format),
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
    ),
    max_leaves=6,
)


@given(rules, st.integers(0, 4), st.integers(0, 4), st.integers(0, 3), st.data())
def test_a_verdict_other_than_unknown_holds_however_the_open_items_turn_out(
    rule, fixed, still_wrong, failed, data
):
    found = arm(fixed=fixed, still_wrong=still_wrong, kept=2, failed=failed)
    told = verdict(rule, found)
    settled = [
        one
        if one.outcome is not ItemOutcome.FAILED
        else items(
            *((ItemOutcome.FIXED, 1) if data.draw(st.booleans()) else (ItemOutcome.STILL_WRONG, 1)),
            before=False,
        )[0]
        for one in found
    ]
    for number, one in enumerate(settled):
        one.decision_id, one.after = str(number), one.outcome in {ItemOutcome.FIXED, ItemOutcome.UNCHANGED}

    if told != "unknown" and "better" not in rule:
        assert verdict(rule, settled) == told
