from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.domain.replica import Load
from cordee.policy.canary import (
    FINGERPRINTS_MAX,
    ORACLE,
    TOKENS,
    Finding,
    Known,
    Stall,
    Trust,
    oracle_answer,
    prompt,
    question,
    words_of,
)
from cordee.policy.oracle import token_at

RIGHT, WRONG, SILENT, LATE = Finding.RIGHT, Finding.WRONG, Finding.SILENT, Finding.LATE
A, B = (1, 2), (3, 4)


@pytest.mark.parametrize(
    ("found", "holds"),
    [
        ([], False),
        ([RIGHT], True),
        ([WRONG], False),
        ([RIGHT, WRONG], True),
        ([RIGHT, WRONG, RIGHT, WRONG], True),
        ([RIGHT, WRONG, WRONG], False),
        ([RIGHT, WRONG, WRONG, WRONG, RIGHT], True),
        ([RIGHT, WRONG, WRONG, RIGHT, WRONG], True),
        ([RIGHT, SILENT], False),
        ([RIGHT, SILENT, LATE], True),
        ([RIGHT, SILENT, RIGHT], True),
        ([LATE], True),
        ([LATE, WRONG], False),
        ([WRONG, LATE], False),
        ([RIGHT, WRONG, WRONG, LATE], False),
    ],
)
def test_trust_follows_from_what_was_found(found: list[Finding], holds: bool):
    trust = Trust()
    for finding in found:
        trust.found(finding)
    assert trust.holds is holds


@given(st.lists(st.sampled_from(Finding)))
def test_whoever_was_wrong_twice_in_a_row_is_trusted_again_only_after_a_right_answer(found: list[Finding]):
    trust = Trust()
    for finding in [*found, WRONG, WRONG]:
        trust.found(finding)
    assert not trust.holds
    trust.found(LATE)
    assert not trust.holds
    trust.found(RIGHT)
    assert trust.holds


def test_the_only_replica_is_taken_at_its_word_and_held_to_it():
    known = Known()
    assert known.judge("f", "w1", A) is RIGHT
    assert known.judge("f", "w1", A) is RIGHT
    assert known.judge("f", "w1", B) is WRONG
    assert known.agreed == {}


def test_what_two_replicas_agree_on_is_known():
    known = Known()
    known.judge("f", "w1", A)
    assert known.judge("f", "w2", A) is RIGHT
    assert known.agreed == {"f": A}
    assert known.judge("f", "w3", B) is WRONG


def test_of_two_that_disagree_the_first_keeps_its_place_until_a_third_decides():
    known = Known()
    assert known.judge("f", "w1", A) is RIGHT
    assert known.judge("f", "w2", B) is WRONG
    assert known.judge("f", "w2", B) is WRONG
    assert known.judge("f", "w1", A) is RIGHT
    assert known.judge("f", "w3", B) is RIGHT
    assert known.judge("f", "w1", A) is WRONG
    assert known.judge("f", "w2", B) is RIGHT


def test_a_word_leaves_with_its_replica_and_what_was_agreed_on_stays():
    known = Known()
    known.judge("f", "w1", A)
    known.left("f", "w1")
    assert known.judge("f", "w1", B) is RIGHT
    known.judge("f", "w2", B)
    known.left("f", "w1")
    known.left("f", "w2")
    assert known.judge("f", "w1", A) is WRONG


def test_fingerprints_do_not_know_each_others_answers_and_are_bounded():
    known = Known({"f": A})
    assert known.judge("g", "w1", B) is RIGHT
    for number in range(2 * FINGERPRINTS_MAX):
        known.judge(f"h{number}", "w1", A)
        known.judge(f"h{number}", "w2", A)
    assert len(known.agreed) == FINGERPRINTS_MAX


def test_an_engine_stalls_when_it_has_work_and_makes_no_steps():
    stall = Stall()
    assert stall.look(0.0, Load(running=1, steps=5)) == 0.0
    assert stall.look(1.0, Load(running=1, steps=5)) == 0.0
    assert stall.look(3.0, Load(running=1, steps=5)) == 2.0
    assert stall.look(4.0, Load(waiting=1, steps=5)) == 3.0
    assert stall.look(5.0, Load(running=1, steps=6)) == 0.0
    assert stall.look(9.0, Load(running=0, steps=6)) == 0.0
    assert stall.look(10.0, Load(running=1, steps=6)) == 0.0
    assert stall.look(11.0, Load(running=1, steps=6)) == 1.0


def test_the_oracle_is_asked_what_can_be_computed_and_a_model_always_the_same():
    asked = question(ORACLE, 1 << 16, 7)
    assert asked.answer == oracle_answer(7) == tuple(token_at(7, i) for i in range(TOKENS))
    assert question("m", 49_152, 7) == question("m", 49_152, 8)
    assert question("m", 49_152, 7).answer is None


@given(st.integers(64, 1_000_000))
def test_the_prompt_is_a_pattern_of_tokens_that_every_vocabulary_has(vocabulary: int):
    ids = prompt(vocabulary)
    assert all(0 < token < vocabulary for token in ids)
    assert ids[:4] == ids[4:8]


def test_a_vector_says_where_it_is_largest_and_its_first_bits():
    near = struct.pack("<3f", 0.1, -0.9, 0.2), struct.pack("<3f", 0.1000001, -0.9, 0.2)
    said = [words_of(vector) for vector in near]
    assert [words[0] for words in said] == [1, 1]
    assert said[0] != said[1]
    assert len(words_of(struct.pack("<384f", *range(384)))) == TOKENS
