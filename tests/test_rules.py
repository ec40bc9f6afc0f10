"""Each rule of the guarantees is named by a test that holds it, and held by one that is written with the harness."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text()
RULES = re.findall(r"^([A-Z][0-9]+)\n: ", GUARANTEES, re.MULTILINE)
TESTS = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "testing" / "flowkit_testing" / "contract").glob("*.py")]
NAME = re.compile(r"\b[DIRGWEX][1-9]\b")
PROMISES = sorted((ROOT / "tests" / "promises").glob("test_*.py"))


def _tests(tree: ast.AST, around: str = "") -> Iterator[tuple[str, str]]:
    """The tests of a module, with their docstrings and those of the class around them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _tests(node, ast.get_docstring(node) or "")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node.name, f"{ast.get_docstring(node) or ''} {around}"


@cache
def _named_by_tests() -> dict[str, list[str]]:
    """Which tests name which rule."""
    found: dict[str, list[str]] = {}
    for file in TESTS:
        for test, text in _tests(ast.parse(file.read_text())):
            for rule in NAME.findall(text):
                found.setdefault(rule, []).append(f"{file.name}::{test}")
    return found


def test_the_rules_are_found() -> None:
    """The page is read as it is written: its rules are numbered without gaps, letter by letter."""
    numbers: dict[str, list[int]] = {}
    for rule in RULES:
        numbers.setdefault(rule[0], []).append(int(rule[1:]))

    assert list(numbers) == ["D", "I", "R", "G", "W", "E", "X"]
    assert all(given == list(range(1, len(given) + 1)) for given in numbers.values())


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_named_by_a_test(rule: str) -> None:
    """A rule without a test is a wish."""
    assert _named_by_tests().get(rule), f"no test names rule {rule} in its docstring"


def _promises() -> Iterator[tuple[str, str, bool]]:
    """Each test of the promises, with the rule that its docstring begins with, and whether it uses the harness."""
    for file in PROMISES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                rule, _, _ = (ast.get_docstring(node) or "").partition(":")
                yield f"{file.name}::{node.name}", rule, "harness" in {each.arg for each in node.args.args}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_is_held_with_the_harness(rule: str) -> None:
    """As whoever tests a workflow would do it: none is left to tests that know flowkit from within."""
    assert [test for test, held, harness in _promises() if held == rule and harness]


def test_each_promise_names_its_rule() -> None:
    """What is tested there is promised somewhere, and tested with the harness."""
    found = list(_promises())
    assert len(found) > len(RULES)
    assert [test for test, rule, harness in found if rule not in RULES or not harness] == []
