"""The suite of preprocessors: what every step between sessions and a model keeps, whichever it is."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from endcap.features.sessions import Sessions, Types
from endcap.preprocessing import Preprocessing, Training
from endcap.spec.preprocessing import PreprocessorSpec
from endcap.testing.contract import N_ITEMS, SEED, checkerboard

NEVER_MET = 4
"""Items of the vocabulary that no training session has, as of days that the validation holds."""
FEATURES = ("position", "gap")
TYPES = ("view", "cart", "purchase")


def log(sessions: int = 120, seed: int = 7) -> Sessions:
    """The checkerboard with what a shop's log has: features, types, customers, and now and then an event twice."""
    board = checkerboard(sessions, seed)
    rng = np.random.default_rng(seed)
    times = board.times + rng.integers(0, 900, len(board.items))
    position = np.arange(len(board.items)) - np.repeat(board.offsets[:-1], board.lengths)
    gap = np.where(position > 0, np.diff(times, prepend=0), 0) / 1000
    values = dict(zip(FEATURES, (position.astype(np.float32), gap.astype(np.float32)), strict=True))
    types = Types(TYPES, rng.integers(0, len(TYPES) + 1, len(board.items)).astype(np.int16))
    customers = (np.arange(sessions) % 40).astype(np.int32)
    return replace(board, times=times, customers=customers, features=values, types=types)


def item_table(n_items: int = N_ITEMS + NEVER_MET) -> pa.Table:
    """Items `i0`, `i1`, … with a category and a price."""
    numbers = range(n_items)
    return pa.table(
        {
            "item": [f"i{number}" for number in numbers],
            "category": [("even", "odd")[number % 2] for number in numbers],
            "price": [10.0 + number for number in numbers],
        }
    )


def assert_equal(first: Sessions, second: Sessions) -> None:
    """Two batches of sessions are the same, in every array."""
    for name in ("items", "times", "offsets", "customers"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    assert first.features.keys() == second.features.keys()
    for name, values in first.features.items():
        np.testing.assert_array_equal(values, second.features[name], err_msg=name)
    assert (first.types is None) == (second.types is None)
    if first.types is not None and second.types is not None:
        np.testing.assert_array_equal(first.types.codes, second.types.told_by(first.types.names))


def _read_only(sessions: Sessions) -> Sessions:
    """A copy whose arrays refuse to be written into."""
    features = {name: values.copy() for name, values in sessions.features.items()}
    types = None if sessions.types is None else Types(sessions.types.names, sessions.types.codes.copy())
    copy = Sessions(
        sessions.items.copy(),
        sessions.times.copy(),
        sessions.offsets.copy(),
        sessions.customers.copy(),
        features,
        types,
    )
    arrays: list[NDArray[Any]] = [copy.items, copy.times, copy.offsets, copy.customers, *features.values()]
    for array in [*arrays, *([] if types is None else [types.codes])]:
        array.flags.writeable = False
    return copy


class PreprocessorContract:
    """Derive a class ``TestX`` that says which preprocessor: pytest then runs each of these tests on it.

    document: the step as under `preprocessing:` in a spec. Override the fixture `training` where the class needs other
    items or features than `log` and `item_table` have. most_seconds: what one request may take (the median).
    """

    document: ClassVar[dict[str, Any]] = {}
    most_seconds: ClassVar[float] = 0.005

    @pytest.fixture(scope="class")
    def spec(self) -> PreprocessorSpec:
        return PreprocessorSpec.model_validate(self.document)

    @pytest.fixture(scope="class")
    def training(self) -> Training:
        return Training(log(), N_ITEMS + NEVER_MET, item_table(), SEED)

    @pytest.fixture(scope="class")
    def strangers(self, training: Training) -> Sessions:
        """Sessions that are not of the training part: empty ones and one of items never met among them."""
        more = log(30, seed=11)
        never = slice(more.offsets[3], more.offsets[4])
        items = more.items.copy()
        items[never] = N_ITEMS + np.arange(more.lengths[3]) % NEVER_MET
        # An empty one before and behind.
        offsets = np.concatenate([more.offsets[:1], more.offsets, more.offsets[-1:]])
        customers = np.concatenate([[-1], more.customers, [1_000_000]]).astype(np.int32)
        return replace(more, items=items, offsets=offsets, customers=customers)

    @pytest.fixture(scope="class")
    def step(self, spec: PreprocessorSpec, training: Training) -> Preprocessing:
        """The step, fitted on the training part."""
        return self._fitted(spec, training)

    @staticmethod
    def _fitted(spec: PreprocessorSpec, training: Training) -> Preprocessing:
        step = Preprocessing.of([spec])
        step.fit(training)
        return step

    def test_sessions_stay_as_many_and_in_the_order_of_time(
        self, step: Preprocessing, training: Training, strangers: Sessions
    ) -> None:
        for sessions in (training.sessions, strangers):
            transformed = step.transform(sessions)  # which checks lengths, types of arrays and the vocabulary
            inside = np.flatnonzero(np.diff(transformed.session_of_event) == 0)
            assert (np.diff(transformed.times)[inside] >= 0).all()
            np.testing.assert_array_equal(transformed.customers, sessions.customers)

    def test_a_batch_and_single_requests_agree(self, step: Preprocessing, strangers: Sessions) -> None:
        together = step.transform(strangers)
        for row in range(len(strangers)):
            assert_equal(step.transform(strangers.take(np.array([row]))), together.take(np.array([row])))
        backwards = np.arange(len(strangers))[::-1]
        assert_equal(step.transform(strangers.take(backwards)), together.take(backwards))

    def test_training_and_later_sessions_are_transformed_alike(
        self, spec: PreprocessorSpec, training: Training
    ) -> None:
        step = Preprocessing.of([spec])
        assert_equal(step.fit(training), step.transform(training.sessions))

    def test_an_empty_session_and_no_session_are_no_trouble(self, step: Preprocessing, strangers: Sessions) -> None:
        alone = step.transform(strangers.take(np.array([0, len(strangers) - 1])))
        assert len(alone) == 2
        assert len(step.transform(strangers.take(np.array([], dtype=np.int64)))) == 0

    def test_two_fits_are_equal(self, spec: PreprocessorSpec, training: Training, strangers: Sessions) -> None:
        first, second = self._fitted(spec, training), self._fitted(spec, training)
        assert_equal(first.transform(strangers), second.transform(strangers))

    def test_another_fit_forgets_the_one_before(
        self, spec: PreprocessorSpec, training: Training, strangers: Sessions
    ) -> None:
        step = Preprocessing.of([spec])
        step.fit(replace(training, sessions=log(40, seed=5)))
        step.fit(training)
        assert_equal(step.transform(strangers), self._fitted(spec, training).transform(strangers))

    def test_it_learns_from_the_training_part_alone(
        self, spec: PreprocessorSpec, training: Training, strangers: Sessions
    ) -> None:
        step = self._fitted(spec, training)
        before = step.transform(training.sessions)
        for _ in range(3):
            step.transform(strangers)
        assert_equal(step.transform(training.sessions), before)

    def test_it_does_not_write_into_what_it_is_given(
        self, spec: PreprocessorSpec, training: Training, strangers: Sessions
    ) -> None:
        step = self._fitted(spec, replace(training, sessions=_read_only(training.sessions)))
        step.transform(_read_only(strangers))

    def test_what_it_returns_is_the_caller_s_to_change(self, step: Preprocessing, strangers: Sessions) -> None:
        before = _read_only(step.transform(strangers))
        result = step.transform(_read_only(strangers))
        for values in result.features.values():
            if values.flags.writeable:
                values[:] = -1
        if result.items.flags.writeable:
            result.items[:] = 0
        assert_equal(step.transform(strangers), before)

    def test_saved_and_loaded_it_does_the_same_without_pickle(
        self, spec: PreprocessorSpec, step: Preprocessing, strangers: Sessions, tmp_path: Path
    ) -> None:
        step.save(tmp_path)
        assert {file.suffix for file in tmp_path.rglob("*") if file.is_file()} <= {".json", ".safetensors"}
        again = Preprocessing.load(tmp_path, [spec.path])
        assert_equal(again.transform(strangers), step.transform(strangers))
        np.testing.assert_array_equal(again.known_customers, step.known_customers)

    def test_it_knows_customers_of_its_training_alone(
        self, step: Preprocessing, training: Training, strangers: Sessions
    ) -> None:
        known = step.known_customers
        assert (np.diff(known) > 0).all()
        assert set(known) <= set(training.sessions.customers)
        unknown = [replace(strangers, customers=np.full(len(strangers), code, np.int32)) for code in (-1, 2_000_000)]
        first, second = (step.transform(sessions) for sessions in unknown)
        assert_equal(replace(first, customers=strangers.customers), replace(second, customers=strangers.customers))

    @pytest.mark.parametrize("words", [[[0, 1, 0]], [[0]], [[], [0, 1], []], []], ids=["one", "event", "empty", "none"])
    def test_small_training_data_is_no_trouble(
        self, spec: PreprocessorSpec, training: Training, words: list[list[int]]
    ) -> None:
        bare = Sessions.of(words)
        values = {name: np.zeros(len(bare.items), np.float32) for name in training.sessions.features}
        types = training.sessions.types
        if types is not None:
            types = Types(types.names, np.zeros(len(bare.items), np.int16))
        (step,) = Preprocessing.of([spec]).steps
        small = replace(bare, features=values, types=types)
        step.fit(replace(training, sessions=small))
        assert len(step.transform(small)) == len(words)

    def test_a_request_takes_little_time(self, step: Preprocessing, strangers: Sessions) -> None:
        request, taken = strangers.take(np.array([4])), []
        for _ in range(50):
            begun = time.perf_counter()
            step.transform(request)
            taken.append(time.perf_counter() - begun)
        assert statistics.median(taken) < self.most_seconds
