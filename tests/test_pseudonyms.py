"""Keyed pseudonyms: their form, which never changes, and what they do not give away."""

from __future__ import annotations

import csv
import pickle

import pytest
from click.testing import CliRunner

from endcap.cli.pseudonyms import command
from endcap.errors import UserError
from endcap.pseudonyms import KEY, Pseudonymiser, looks_like_pseudonym, read_pseudonymiser

FIRST, SECOND = Pseudonymiser(b"the first key of this test"), Pseudonymiser(b"the second key of this test")
IDS = ("anna", "Anna", "anna ", "42", "ärger", "\ud800", "x" * 1024, "p-" + "0" * 32)


def test_pseudonyms_have_a_form_that_never_changes() -> None:
    assert Pseudonymiser(b"an example, no secret").pseudonymise("anna") == "p-8bb75bc9fbfac37b7d3ee72a292725bc"
    assert Pseudonymiser(b"an example, no secret").key_id == "0e9dae7c"


def test_each_id_and_each_key_has_its_own_pseudonyms() -> None:
    made = {each.pseudonymise(text) for each in (FIRST, SECOND) for text in IDS}
    assert len(made) == 2 * len(IDS)
    assert all(looks_like_pseudonym(text) for text in made)


def test_a_pseudonym_of_the_key_stays_as_it_is_and_another_text_of_its_form_does_not() -> None:
    own, foreign, forged = FIRST.pseudonymise("anna"), SECOND.pseudonymise("anna"), IDS[-1]
    assert FIRST.pseudonymise(own) == own
    assert FIRST.recognise(own)
    for text in (foreign, forged, own[:-1] + ("0" if own[-1] != "0" else "1")):
        assert not FIRST.recognise(text)
        assert FIRST.pseudonymise(text) != text


def test_the_key_comes_from_a_variable_and_a_short_one_is_refused() -> None:
    assert read_pseudonymiser(environment={}) is None
    read = read_pseudonymiser(environment={KEY: "the first key of this test\n"})
    assert read is not None
    assert read.key_id == FIRST.key_id
    with pytest.raises(UserError) as caught:
        read_pseudonymiser(environment={KEY: "short"})
    assert caught.value.code == "pseudonyms.key-short"
    assert "short" not in caught.value.fields.values()


def test_no_text_or_file_gets_the_key_by_accident() -> None:
    assert "key of this" not in repr(FIRST)
    with pytest.raises(TypeError):
        pickle.dumps(FIRST)


def test_the_command_line_lists_pseudonyms_to_join_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "the first key of this test")
    listed = CliRunner().invoke(command, input='anna\r\n"b, c"\n\nanna\n')
    assert listed.exit_code == 0
    rows = list(csv.reader(listed.output.splitlines()))
    assert rows == [["id", "pseudonym"], *([name, FIRST.pseudonymise(name)] for name in ("anna", '"b, c"'))]
