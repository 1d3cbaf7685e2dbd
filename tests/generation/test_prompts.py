"""Prompt templates: the built-in ones, and a user's own in their place."""

from __future__ import annotations

import json

import pytest
from support.generation_runs import QUICK, generate_args, read_payloads, read_rows
from support.prompt_contexts import prompt_context

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.plugins import PluginError
from code_alpaca.generation.strategies import STRATEGIES, Prompt, Strategy
from code_alpaca.generation.templates import PromptTemplates


@pytest.fixture
def prompts(tmp_path):
    folder = tmp_path / "prompts"
    folder.mkdir()
    return folder


def test_a_template_of_the_same_name_replaces_the_built_in_one_also_where_it_is_included(prompts):
    (prompts / "rules.jinja").write_text("Only write Haiku.\n")
    values = {"count": 2, "examples": [], "wish": {}}
    text = PromptTemplates(prompts).render("self_instruct", **values)
    assert "Only write Haiku." in text and "What makes a good task" not in text
    assert text.startswith(PromptTemplates().render("self_instruct", **values)[:120])


def test_the_version_is_a_hash_of_the_templates_in_use(prompts):
    built_in = PromptTemplates()
    assert built_in.version("self_instruct", "rules") == "0e561768", "the version of old runs"
    (prompts / "rules.jinja").write_text("Other rules.\n")
    templates = PromptTemplates(prompts)
    assert templates.version("numbered") == built_in.version("numbered")
    assert templates.version("self_instruct", "rules") != "0e561768"


def test_a_value_is_shown_as_it_is_and_not_escaped_for_html(prompts):
    (prompts / "numbered.jinja").write_text("{{ x | tojson }}")
    assert PromptTemplates(prompts).render("numbered", x="<a> & 'ä'") == "\"<a> & 'ä'\""


@pytest.mark.parametrize(
    ("name", "api", "version"),
    [
        ("self_instruct", "chat", "0e561768"),
        ("self_instruct", "completions", "20f80278"),
        ("evol_instruct", "chat", "4a796e44"),
        ("oss_instruct", "chat", "e65c522a"),
        ("alpaca_2023", "completions", "1a350ae7"),
        ("topics", "chat", "17c330e9"),
    ],
)
def test_the_built_in_prompts_are_those_of_the_first_release(name, api, version):
    """Another version means other requests: a run that is resumed would be paid for again."""
    assert STRATEGIES[name]().prompt_version(PromptTemplates(), api) == version


def test_a_strategy_that_declares_no_templates_keeps_its_version_in_later_releases():
    class Mine(Strategy):
        def ask(self, context):
            return Prompt(context.render("topics"), [])

    templates = PromptTemplates()
    assert Mine().prompt_version(templates, "chat") == "6563de83", "that of the first release"
    with pytest.raises(PluginError, match=r"'topics', which is not in its `templates` \(none\)"):
        Mine().ask(prompt_context())


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("rule.jinja", "", "did you mean 'rules'?"),
        ("rules.jinja", "one\n{% if %}", "rules.jinja, line 2: Expected an expression"),
        ("notes.txt", "", "contains no .jinja file"),
    ],
)
def test_a_folder_that_overrides_nothing_or_has_wrong_syntax_is_refused(
    prompts, name, source, message
):
    (prompts / name).write_text(source)
    with pytest.raises(InputError, match=message) as error:
        PromptTemplates(prompts)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_refused(tmp_path, capsys):
    more = [*QUICK, "--prompts", str(tmp_path / "missing")]
    assert main(generate_args(tmp_path / "r", *more)) == 2
    error = capsys.readouterr().err
    assert "missing is not a folder" in error and error.count("\n") == 1


def test_an_unknown_value_in_a_template_is_refused_before_anything_is_sent(
    tmp_path, prompts, capsys
):
    (prompts / "self_instruct.jinja").write_text("Write\n{{ number_of_tasks }}")
    assert main(generate_args(tmp_path / "r", *QUICK, "--prompts", str(prompts))) == 2
    error = capsys.readouterr().err
    assert "self_instruct.jinja, line 2: 'number_of_tasks' is undefined" in error
    assert "the template gets count, examples, labels" in error
    assert error.count("\n") == 1 and not (tmp_path / "r").exists()


def test_a_run_uses_the_users_prompts_and_is_not_resumed_with_others(
    tmp_path, prompts, capsys, teacher_url
):
    built_in = (PromptTemplates().render("rules", wish={})).splitlines()
    (prompts / "rules.jinja").write_text("\n".join(["Rules of this team:", *built_in]))
    run_dir = tmp_path / "run"
    args = generate_args(run_dir, *QUICK, "--prompts", str(prompts), url=teacher_url)
    assert main(args) == 0
    assert "Rules of this team:" in read_payloads(run_dir)[0]["messages"][0]["content"]
    (version,) = {row["prompt_version"] for row in read_rows(run_dir)}
    manifest = json.loads((run_dir / "dataset/manifest.json").read_text())
    assert manifest["prompt_version"] == version != "0e561768"

    moved = prompts.rename(tmp_path / "moved")
    args[args.index(str(prompts))] = str(moved)
    assert main(args) == 0, "the folder may move: its content identifies the run"
    (moved / "rules.jinja").write_text("Other rules.\n")
    assert main(args) == 2
    error = capsys.readouterr().err
    assert f"the prompt templates in {moved} changed since" in error and error.count("\n") == 1
