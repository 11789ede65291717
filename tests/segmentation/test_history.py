"""What can be taken back, by whom."""

from __future__ import annotations

from streamseg.segmentation.history import MAX_UNDO, History


def test_each_takes_back_the_newest_of_their_own() -> None:
    history: History[int] = History()
    for author, said in (("a", 1), ("b", 2), ("a", 3), ("b", 4)):
        history.add(author, said)
    assert history.take("a") == (3, [4])
    assert history.take("a") == (1, [2, 4])
    assert history.take("a") is None
    assert history.take("b") == (4, [])
    history.drop(lambda said: said == 2)
    assert history.take("b") is None


def test_what_one_says_too_much_is_forgotten_of_that_one() -> None:
    history: History[int] = History()
    history.add("quiet", -1)
    for said in range(2 * MAX_UNDO):
        history.add("loud", said)
    for said in reversed(range(MAX_UNDO + 1, 2 * MAX_UNDO)):
        taken = history.take("loud")
        assert taken is not None
        assert taken[0] == said
    assert history.take("loud") is None
    assert history.take("quiet") == (-1, [])
