"""A strategy from a user's file: a function that writes a prompt, or a whole strategy."""

from __future__ import annotations

import json

import pytest
from support.generation_runs import QUICK, generate_args, read_payloads, read_rows
from werkzeug import Response

from code_alpaca.cli import main

FUNCTION = '''
from code_alpaca.generation.strategies import Prompt, prompt_fields

def ask(context):
    """Show one seed task in the built-in self-instruct prompt."""
    task = context.rng.choice(context.seed_tasks)
    text = context.render("self_instruct", count=context.num_tasks,
                          examples=[prompt_fields(task)], wish=context.labels)
    return Prompt("From my file. " + text, [task.id])
'''
OBJECT = '''
from code_alpaca.generation.candidates import Candidate
from code_alpaca.generation.strategies import Prompt, Strategy

class Shout(Strategy):
    """A strategy with a template, a stop string and a parser of its own."""

    templates = ("shout",)
    stop = ("STOP",)

    def tasks_per_request(self, prompt, default):
        return 1

    def ask(self, context):
        return Prompt(context.render("shout", number=context.rng.randrange(10**6)), [])

    def parse(self, reply, prefix, *, numbered):
        return [Candidate(instruction=f"Explain the reply {reply.text} to me.", output=reply.text)]

shout = Shout()
'''


def test_a_function_writes_prompts_and_its_file_identifies_the_run(tmp_path, capsys, teacher_url):
    file, run_dir = tmp_path / "my_strategy.py", tmp_path / "run"
    file.write_text(FUNCTION)
    more = [*QUICK, "--strategy", f"self_instruct=1,{file}:ask=2", "--tasks_per_request", "2"]
    args = generate_args(run_dir, *more, url=teacher_url, rows=20)
    assert main(args) == 0
    rows = read_rows(run_dir)
    assert {row["strategy"] for row in rows} == {"my_strategy.py:ask", "self_instruct"}
    assert len({row["prompt_version"] for row in rows}) == 2
    prompts = [payload["messages"][0]["content"] for payload in read_payloads(run_dir)]
    assert any(prompt.startswith("From my file.") for prompt in prompts)
    manifest = (run_dir / "dataset/manifest.json").read_text()
    assert '"self_instruct=1,my_strategy.py:ask=2"' in manifest
    assert str(tmp_path) not in manifest, "paths are private"

    assert main(args) == 0, "the unchanged file resumes the run"
    file.write_text(FUNCTION + "\n# changed\n")
    capsys.readouterr()
    assert main(args) == 2
    error = capsys.readouterr().err
    assert "my_strategy.py changed since" in error and error.count("\n") == 1


def test_a_function_is_not_resumed_with_an_edited_template(tmp_path, capsys, teacher_url):
    file, prompts = tmp_path / "mine.py", tmp_path / "prompts"
    file.write_text(FUNCTION)
    prompts.mkdir()
    template = prompts / "self_instruct.jinja"
    template.write_text("Write {{ count }} tasks like {{ examples | tojson }}. {{ wish }}")
    more = [*QUICK, "--strategy", f"{file}:ask", "--prompts", str(prompts)]
    assert main(generate_args(tmp_path / "run", *more, url=teacher_url, rows=5)) == 0
    template.write_text("Other words: " + template.read_text())
    capsys.readouterr()
    assert main(generate_args(tmp_path / "run", *more, url=teacher_url, rows=10)) == 2
    assert f"the prompt templates in {prompts} changed since" in capsys.readouterr().err


def test_a_strategy_object_brings_its_own_template_stop_string_and_parser(tmp_path, httpserver):
    file, prompts = tmp_path / "loud.py", tmp_path / "prompts"
    file.write_text(OBJECT)
    prompts.mkdir()
    (prompts / "shout.jinja").write_text("SHOUT {{ number }}")
    served = []

    def respond(request):
        served.append(json.loads(request.data))
        content = f"word{len(served)} " * len(served)
        reply = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
        return Response(json.dumps(reply), content_type="application/json")

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(respond)
    more = [*QUICK, "--filters", "none", "--strategy", f"{file}:shout", "--prompts", str(prompts)]
    url = httpserver.url_for("/v1")
    assert main(generate_args(tmp_path / "run", *more, "--novelty_threshold", "1", url=url,
                              rows=3)) == 0  # fmt: skip
    assert served[0]["stop"] == ["STOP"]
    assert served[0]["messages"][0]["content"].startswith("SHOUT ")
    assert {row["strategy"] for row in read_rows(tmp_path / "run")} == {"loud.py:shout"}


CLASS = """
from code_alpaca.generation.strategies import Prompt, Strategy

class ask(Strategy):
    def ask(self, context):
        return Prompt("Write tasks.", [])
"""
PROMPT = "from code_alpaca.generation.strategies import Prompt\ndef ask(context):\n    return "


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("ask = 3", "is of type int; write a function ask(context)"),
        ("def ask(context):\n    return 'text'", "returned a str; return a code_alpaca.generation"),
        ("def ask(context):\n    return context.nothing", "failed: AttributeError"),
        ("def ask(context):\n    return 1 / 0", "ZeroDivisionError: division by zero (line 2)"),
        ("def other(context): ...", "does not define 'ask'"),
        (
            "from code_alpaca.generation.strategies import Strategy\nclass ask(Strategy): ...",
            "has no method ask(context); define it",
        ),
        ("import nothing_like_this", "No module named 'nothing_like_this'"),
        ("class ask: ...", "is a class; make it a subclass of code_alpaca.generation.strategies"),
        (PROMPT + "Prompt(5, [])", "the text of a Prompt is 5, not a prompt (line 3); correct"),
        (PROMPT + "Prompt('', [])", "the text of a Prompt is '', not a prompt (line 3)"),
        (PROMPT + "Prompt('Write.', 'a')", "the seed_ids of a Prompt are 'a', not a list"),
        (PROMPT + "Prompt('Write.', ['a'])", "no seed task or row in its context has the id 'a'"),
        (PROMPT + "Prompt('a\\ud800', [])", "has a lone surrogate, which cannot be sent"),
        (PROMPT + "Prompt('Write.', [], 7)", "the prefix of a Prompt is 7, not text"),
        ("async def ask(context): ...", "is an async function; define it with `def`"),
        ("import asyncio\ndef ask(context):\n    raise asyncio.CancelledError", "(line 3)"),
        (
            "class E(Exception):\n    def __str__(self): 1 / 0\ndef ask(context):\n    raise E",
            "failed: E (line 4)",
        ),
        (CLASS + "    stop = 'END'", "stop is 'END'; write a tuple of names"),
        (CLASS + "    own_keys = ('novelty_treshold',)", "did you mean 'novelty_threshold'?"),
        (CLASS + "    curation_overrides = {'nokey': 1}", "there is no config key 'nokey'"),
        (
            CLASS + "    def validate(self, config): return {}['x']",
            "failed: KeyError: 'x' (line 7)",
        ),
        (
            CLASS + "    def prompt_version(self, *args): ...",
            "prompt_version returned None; return s",
        ),
        (CLASS + "    def tasks_per_request(self, *args): return 'x'", "returned 'x'; return int"),
    ],
)
def test_a_strategy_that_does_not_work_is_refused_in_one_line(tmp_path, capsys, source, message):
    (tmp_path / "mine.py").write_text(source)
    more = [*QUICK, "--strategy", f"{tmp_path}/mine.py:ask"]
    assert main(generate_args(tmp_path / "r", *more)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("ids", ["tuple(ids)", "set(ids)", "(i for i in ids)"])
def test_the_ids_that_a_prompt_shows_may_be_any_iterable(tmp_path, capsys, teacher_url, ids):
    source = FUNCTION.replace("[task.id])", f"{ids})")
    source = source.replace("    text =", "    ids = [task.id]\n    text =")
    (tmp_path / "mine.py").write_text(source)
    more = [*QUICK, "--strategy", f"{tmp_path}/mine.py:ask"]
    assert main(generate_args(tmp_path / "r", *more, url=teacher_url, rows=5)) == 0
    assert all(len(row["seed_ids"]) == 1 for row in read_rows(tmp_path / "r"))


def test_a_strategy_cannot_change_the_seed_tasks_of_others(tmp_path, capsys):
    source = FUNCTION.replace("    task =", "    context.seed_tasks.clear()\n    task =")
    (tmp_path / "mine.py").write_text(source)
    more = [*QUICK, "--strategy", f"{tmp_path}/mine.py:ask"]
    assert main(generate_args(tmp_path / "r", *more)) == 2
    assert "'tuple' object has no attribute 'clear'" in capsys.readouterr().err


@pytest.mark.parametrize("result", ["[dict(", "[Candidate(language=3, "])
def test_a_parser_that_does_not_work_stops_the_run(tmp_path, capsys, teacher_url, result):
    (tmp_path / "mine.py").write_text(OBJECT.replace("[Candidate(", result))
    (tmp_path / "shout.jinja").write_text("SHOUT {{ number }}")
    more = [*QUICK, "--strategy", f"{tmp_path}/mine.py:shout", "--prompts", str(tmp_path)]
    assert main(generate_args(tmp_path / "r", *more, url=teacher_url)) == 2
    error = capsys.readouterr().err
    assert "parse must return a list of code_alpaca.generation.candidates.Candidate" in error
    assert "replies are kept in" in error and error.count("\n") == 1


def test_a_strategy_renders_templates_of_its_own_with_the_labels(tmp_path, capsys, teacher_url):
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    name = "no_built_in_has_this_name"
    (prompts / f"{name}.jinja").write_text("Write {{ count }} tasks in {{ labels.language }}.")
    config = tmp_path / "config.yaml"
    config.write_text("quotas: {language: {go: 1}}\n")
    more = [*QUICK, "--prompts", str(prompts), "--config", str(config)]
    assert main(generate_args(tmp_path / "r", *more)) == 2
    assert "it overrides nothing; templates are" in capsys.readouterr().err, "built-in strategy"
    (tmp_path / "mine.py").write_text(PROMPT + f"Prompt(context.render('{name}'), [])")
    more += ["--strategy", f"{tmp_path}/mine.py:ask", "--dry_run"]
    assert main(generate_args(tmp_path / "r", *more)) == 0
    assert "Write 5 tasks in go." in capsys.readouterr().out


SUBCLASS = """
from code_alpaca.generation.strategies import Prompt, Strategy

class Mine(Strategy):
    templates = ("mine",)

    def ask(self, context):
        return Prompt(context.render("mine", number=context.rng.random()), [])
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('("mine",)', '("mine")', "templates is 'mine'; write a tuple of names, such as templates"),
        ('("mine",)', '("mien",)', "lists 'mien', and there is no prompt template of this name; "
         "did you mean 'mine'?"),
        ('"mine", number', '"rules", number', "renders the prompt template 'rules', which is not "
         "in its `templates` (mine); add it there"),
        ('("mine",)', "()\n    numbered_templates = 'mine'", "numbered_templates is 'mine'; write"),
    ],
)  # fmt: skip
def test_a_strategy_lists_the_templates_that_it_renders(tmp_path, capsys, old, new, message):
    (tmp_path / "mine.py").write_text(SUBCLASS.replace(old, new))
    (tmp_path / "mine.jinja").write_text("Write {{ number }}.")
    more = [*QUICK, "--strategy", f"{tmp_path}/mine.py:Mine", "--prompts", str(tmp_path)]
    assert main(generate_args(tmp_path / "r", *more)) == 2
    error = capsys.readouterr().err
    assert message in error and "mine.py:Mine" in error and error.count("\n") == 1


def test_an_edit_of_an_included_template_is_refused(tmp_path, capsys, teacher_url):
    (tmp_path / "mine.py").write_text(SUBCLASS)
    (tmp_path / "mine.jinja").write_text("Write {{ number }}. {% include 'part' %}")
    (tmp_path / "part.jinja").write_text("In Python.")
    more = [*QUICK, "--strategy", f"{tmp_path}/mine.py:Mine", "--prompts", str(tmp_path)]
    assert main(generate_args(tmp_path / "r", *more, url=teacher_url, rows=5)) == 0
    (tmp_path / "part.jinja").write_text("In Go.")
    assert main(generate_args(tmp_path / "r", *more, url=teacher_url, rows=9)) == 2
    assert "the prompt templates in " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("call", "template", "message"),
    [
        ("render('mien')", "", "there is no prompt template 'mien', which is not in {folder} or "
         "among the built-in ones; did you mean 'mine'? ({folder}/mine.py:ask, line 3)"),
        ("render('mine')", "\n{% include 'ruls' %}", "mine.jinja, line 2: includes the prompt "
         "template 'ruls', which is not in {folder} or among the built-in ones; did you mean"),
        ("render('mine')", "{{ labels.language }}", "labels has difficulty (by the quotas; test a "
         "label by `is defined`)"),
        ("render('mine', examples=context.seed_tasks)", "{{ examples | tojson }}",
         "type SeedTask is not JSON serializable; pass prompt_fields(task) ({folder}/mine.py:ask"),
    ],
)  # fmt: skip
def test_a_template_that_fails_is_named_with_what_to_do(tmp_path, capsys, call, template, message):
    (tmp_path / "mine.py").write_text(PROMPT + f"Prompt(context.{call}, [])")
    (tmp_path / "mine.jinja").write_text(f"Write. {template}")
    (tmp_path / "c.yaml").write_text("quotas: {difficulty: {easy: 1}}\n")
    more = [*QUICK, "--strategy", f"{tmp_path}/mine.py:ask", "--prompts", str(tmp_path)]
    assert main(generate_args(tmp_path / "r", *more, "--config", str(tmp_path / "c.yaml"))) == 2
    error = capsys.readouterr().err
    assert message.format(folder=tmp_path) in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("strategy", "file", "template", "warnings"),
    [
        ("self_instruct", "rules", "Easy: {{ labels.difficulty }}.",
         ["self_instruct do not depend on the quotas for language: use `labels` in its template"]),
        ("self_instruct", "evol_instruct", "No tasks.", ["use none of its templates "
         "(evol_instruct.jinja); they use rules, self_instruct"]),
        ("mine.py:ask", "rulse", "No rules.",
         ["use none of its templates", "rulse.jinja is not used; did you mean 'rules'?"]),
        ("mine.py:uses", "rulse", "No rules.",
         ["mine.py:uses do not depend on the quotas for language, difficulty"]),
        ("mine.py:in_python", "rulse", "No rules.", []),
    ],
)  # fmt: skip
def test_quotas_and_templates_without_effect_are_warned_of(
    tmp_path, capsys, monkeypatch, strategy, file, template, warnings
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        PROMPT + "Prompt(context.render('self_instruct', examples=[]), [])\n"
        "def uses(context):\n    return Prompt(context.render('rulse'), [])\n"
        "def in_python(context):\n    words = {'go': 'Go', 'sql': 'SQL'}\n"
        "    kind = words[context.labels['language']] + context.labels['difficulty']\n"
        "    return Prompt(kind + context.render('rulse'), [])\n"
    )
    (tmp_path / f"{file}.jinja").write_text(template)
    (tmp_path / "c.yaml").write_text("quotas: {language: {go: 1, sql: 1}, difficulty: {easy: 1}}\n")
    more = [*QUICK, "--strategy", strategy, "--prompts", ".", "--config", "c.yaml", "--dry_run"]
    assert main(generate_args(tmp_path / "r", *more)) == 0
    output = capsys.readouterr()
    printed = [line for line in (output.out + output.err).splitlines() if "warning" in line]
    assert len(printed) == len(warnings), printed
    assert all(text in line for text, line in zip(warnings, printed, strict=True)), printed


def test_a_missing_file_is_refused(tmp_path, capsys):
    assert main(generate_args(tmp_path / "r", "--strategy", "missing.py:ask")) == 2
    assert "cannot read strategy file missing.py" in capsys.readouterr().err


def test_two_files_of_the_same_name_are_refused(tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(FUNCTION)
    mix = f"{tmp_path}/a/mine.py:ask,{tmp_path}/b/mine.py:ask"
    assert main(generate_args(tmp_path / "r", *QUICK, "--strategy", mix)) == 2
    assert "two files have the same name" in capsys.readouterr().err
