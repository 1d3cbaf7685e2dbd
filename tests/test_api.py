"""The public Python interface: `import code_alpaca` is instant, and its names are documented."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import resources

import pytest

import code_alpaca
from code_alpaca import CurationRules, curate_rows, grade_completions, load_problems, verify_program

FIXED = {
    "GenerateConfig", "generate_dataset", "CurationRules", "curate_rows", "load_rows",
    "load_problems", "Problem", "grade_completions", "verify_program", "pass_at_k",
    "format_prompt", "respond", "InputError", "Stopped",
}  # fmt: skip
FUNCTIONS = sorted(name for name in FIXED if name.islower())


def test_the_names_are_stable():
    assert set(code_alpaca.__all__) == FIXED
    assert set(code_alpaca.__all__) <= set(dir(code_alpaca))


def test_importing_the_package_loads_nothing_else():
    code = (
        "import sys; before = set(sys.modules); import code_alpaca;"
        "loaded = set(sys.modules) - before;"
        "print(*[name for name in loaded if name.split('.')[0] not in sys.stdlib_module_names])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["code_alpaca"]


def test_no_name_needs_an_extra_to_be_imported():
    code = (
        "import sys, code_alpaca; [getattr(code_alpaca, name) for name in code_alpaca.__all__];"
        "print(*{'torch', 'transformers', 'trl', 'evaluate', 'gradio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", sorted(FIXED))
def test_every_name_is_documented(name):
    value = getattr(code_alpaca, name)
    assert value.__name__ == name
    assert (value.__doc__ or "").strip().endswith((".", "`", "`."))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_annotated(name):
    function = getattr(code_alpaca, name)
    signature = inspect.signature(function)
    empty = inspect.Signature.empty
    assert signature.return_annotation is not empty
    assert all(p.annotation is not empty for p in signature.parameters.values())


def test_type_checkers_see_the_same_names():
    """In a branch that is never run, so it is parsed."""
    tree = ast.parse(inspect.getsource(code_alpaca))
    (branch,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        (alias.asname, f"{node.module}.{alias.name}")
        for node in branch.body
        for alias in node.names
    }
    assert imported == {(name, f"{getattr(code_alpaca, name).__module__}.{name}") for name in FIXED}
    assert resources.files("code_alpaca").joinpath("py.typed").is_file()


def test_the_old_name_of_respond_still_works():
    with pytest.warns(DeprecationWarning, match=r"use code_alpaca\.respond"):
        assert code_alpaca.generate is code_alpaca.respond
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = code_alpaca.no_such_name


def test_rows_are_curated_in_memory_as_curate_does():
    good = {"instruction": "Write a Python function that doubles a number.",
            "output": "def double(x):\n    return 2 * x"}  # fmt: skip
    rows = [
        good,
        {**good, "instruction": "Write a Python function which doubles a number."},
        {"instruction": "Write a Python function that halves a number.",
         "output": "def half(x):\n    return x //"},
        {"instruction": "Write a Python function that squares a number.", "output": None},
        {"instruction": "Write a Python function that adds one to a number.",
         "output": "def add(x):\n    return x", "tests": "assert add(1) == 2"},
    ]  # fmt: skip
    decisions = curate_rows(rows, CurationRules(decontaminate=[]))
    reasons = [decision.reason for decision in decisions]
    assert reasons == ["", "too_similar", "syntax_error", "empty", "run_failed"]
    assert decisions[0].example.verification == "no_tests"
    assert decisions[0].example.language == "python"
    assert decisions[3].evidence == "row 4: 'output' is null"


def test_completions_are_graded_in_every_form():
    problem = load_problems("mini")[0]
    reference = problem.prompt + problem.canonical_solution
    forms = {
        "response": f"Here is the function:\n```python\n{reference}```",
        "continuation": problem.canonical_solution,
        "program": reference,
    }
    for form, completion in forms.items():
        grades = grade_completions([problem] * 2, [completion, "    return None\n"], form=form)
        assert [grade.status for grade in grades] == ["passed", "failed"], form
    with pytest.raises(ValueError, match="argument 2"):
        grade_completions([problem], [])


def test_a_program_is_verified_with_its_tests():
    program = "def double(x):\n    return 2 * x"
    assert verify_program(program).status == "passed"
    assert verify_program(program, "assert double(2) == 4").status == "passed"
    assert verify_program(program, "assert double(2) == 5").status == "failed"
    assert verify_program("while True: pass", timeout=1.0).status == "timeout"
