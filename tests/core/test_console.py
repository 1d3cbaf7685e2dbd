"""Output of the stages: prefixes, streams, text taken literally, tables and progress."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from code_alpaca.core import console


class Terminal(io.StringIO):
    """A standard output that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_lines_start_with_the_stage_padded_to_ten_columns(capsys):
    output = console.stage("eval")
    output.print("20 samples")
    output.warning("3 answers are empty")
    output.note("no benchmark was compared")
    assert capsys.readouterr().out.splitlines() == [
        "eval      20 samples",
        "warning   3 answers are empty",
        "note      no benchmark was compared",
    ]


def test_warnings_and_notes_need_no_stage(capsys):
    console.warning("check the disk")
    console.note("nothing to do")
    assert capsys.readouterr().out == "warning   check the disk\nnote      nothing to do\n"


def test_a_count_has_its_noun_in_the_right_form():
    assert [console.plural(n, "row") for n in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
    assert console.plural(2, "reply", "replies") == "2 replies"


@pytest.mark.parametrize("text", ["[bold]x[/bold] [/]", ":smile:", "a\tb", "x" * 300, "é\u2028ü"])
def test_text_is_printed_literally_and_never_wrapped(capsys, text):
    console.stage("report").print(text)
    assert capsys.readouterr().out == f"report    {text}\n"


def test_a_stage_can_write_to_standard_error(capsys):
    console.stage("dataset", stderr=True).print("3 blank rows dropped")
    assert capsys.readouterr() == ("", "dataset   3 blank rows dropped\n")


def test_other_ranks_print_nothing(capsys):
    output = console.stage("sft", enabled=False)
    output.print("step 1")
    output.warning("slow")
    output.table(["a"], [["b"]])
    with output.progress(10, "rows") as update:
        update(5)
    assert capsys.readouterr() == ("", "")


def test_table_aligns_numbers_to_the_right(capsys):
    console.stage("curate").table(
        ["outcome", "rows"], [["accepted", "1,000"], ["empty", "7"]], title="funnel"
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "funnel"
    assert lines[-2].split("│")[1:3] == [" empty    ", "     7 "]


def test_table_cells_are_printed_literally(capsys):
    console.stage("curate").table(["outcome", "rows"], [["f.py:[bold]", "[1]"]])
    assert "f.py:[bold]" in (out := capsys.readouterr().out) and "[1]" in out


def test_progress_logs_a_line_at_most_every_interval(capsys):
    now = 100.0
    with console.stage("eval").progress(80, "answers", clock=lambda: now) as update:
        update(1)
        now += console.LOG_INTERVAL_S
        update(40)
        update(41)
    assert capsys.readouterr().out == "eval      answers: 40 of 80\n"


def test_progress_draws_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with console.stage("eval").progress(80, "[answers]", completed=20) as update:
        update(80)
    assert "80/80" in terminal.getvalue() and "[answers]" in terminal.getvalue()


def test_progress_draws_nothing_on_a_terminal_that_cannot_move_its_cursor(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with console.stage("eval").progress(80, "answers") as update:
        update(80)
    assert terminal.getvalue() == ""  # within the interval of two lines


def test_a_closed_pipe_ends_the_command_without_a_traceback():
    code = (
        "from code_alpaca.core import console\n"
        "output = console.stage('report')\n"
        "for _ in range(100_000): output.print('row')\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout.readline() == b"report    row\n"
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 141  # 128 + SIGPIPE


def test_printing_a_line_does_not_import_rich():
    code = (
        "import sys; from code_alpaca.core import console; console.stage('sft').print('x'); "
        "sys.exit('rich' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (57.4, "57 s"), (118, "118 s"), (5324, "89 min"), (11_100, "3 h 05 min"),
     (188_000, "2 d 4 h")],
)  # fmt: skip
def test_a_duration_is_in_units_that_people_use(seconds, text):
    assert console.duration(seconds) == text
