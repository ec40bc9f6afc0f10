"""What the server is given of the scripts: no more than each call is to pay for."""

import re
from importlib.resources import files

import pytest

from flowkit_redis.scripts import PARTS, script


@pytest.mark.parametrize("name", PARTS)
class TestEachScript:
    """Each of them, as it is sent."""

    def test_constants_are_filled_in(self, name: str) -> None:
        """A local that functions use is allocated in each call."""
        code = re.sub(r"'[^']*'", "", script(name).text.decode())
        assert set(re.findall(r"\b[A-Z][A-Z_]+\b", code)) <= {"KEYS", "ARGV"}

    def test_a_constant_has_one_value(self, name: str) -> None:
        """What a script is made of does not use one name for two things: the last one would be filled in everywhere."""
        parts, _ = PARTS[name]
        source = "".join(files("flowkit_redis.scripts").joinpath(f"{part}.lua").read_text() for part in (*parts, name))
        names = ", ".join(re.findall(r"^local ([A-Z][A-Z_, ]*) =", source, re.MULTILINE)).split(", ")
        assert len(names) == len(set(names))

    def test_no_function_is_made_for_nothing(self, name: str) -> None:
        """A function that is not used is allocated in each call as well."""
        code = re.sub(r"'[^']*'", "", script(name).text.decode())
        for function in re.findall(r"^local function (\w+)", code, re.MULTILINE):
            assert len(re.findall(rf"\b{function}\b", code)) > 1, function


def test_what_is_quoted_stays_as_it_is() -> None:
    """`LIMIT` is a field of a header, and a word of a command."""
    text = script("claim").text.decode()
    assert "'LIMIT'" in text
    assert not re.search(r"\[LIMIT\]", text)
