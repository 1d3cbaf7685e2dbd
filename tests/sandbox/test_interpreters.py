"""Programs of other languages run in their own interpreters, inside the sandbox."""

from __future__ import annotations

import json

import pytest
from support.needs import need_program
from support.unprivileged import SANDBOX, as_nobody

from code_alpaca import sandbox
from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.evaluation.extract import extract_program
from code_alpaca.evaluation.grading import Grader
from code_alpaca.problems import load_problems
from code_alpaca.sandbox import interpreters

JS = {
    "name": "Own_0_twice", "language": "js", "prompt": "//Twice a number\nfunction twice(n){\n",
    "tests": "const assert = require('node:assert');\nfunction test() {\n  let candidate = twice;\n"
    "  assert.deepEqual(candidate(2), 4);\n}\ntest();",
    "stop_tokens": ["\nfunction ", "\n//", "\nconsole.log"],
}  # fmt: skip
SH = {
    "name": "Own_1_twice", "language": "sh",
    "prompt": "#!/bin/bash\n# Twice a number\n#\n# $1 is an integer\ntwice() {\n",
    "tests": "candidate() {\n    twice \"$@\"\n}\nset -e\n"
    "run_test() {\n    [[ $(candidate 2) = 4 ]]\n}\nrun_test",
    "stop_tokens": ["\n}"],
}  # fmt: skip
ANSWERS = {
    "Own_0_twice": [
        ("  return 2 * n;\n}", "passed"),
        ("function twice(n) { return n + n; }", "passed"),
        ("Here:\n```js\nfunction twice(n) { return n + n; }\n```", "passed"),
        ("  return 3 * n;\n}", "failed"),
        ("  process.exit(0);\n}", "exited"),
        ("  while (true) {}\n}", "timeout"),
        (
            "  const fs = require('fs'); fs.writeFileSync('a', 'x'); fs.copyFileSync('a', 'b');\n"
            "  const s = fs.createWriteStream('c'); for (let i = 0; i < 99; i++) s.write('y');\n"
            "  s.end(() => assert.equal(fs.readFileSync('c').length, 99)); return 4;\n}",
            "passed",
        ),
        (
            "  const fs = require('fs');\n"
            "  for (let i = 0; ; i++) fs.writeFileSync('' + i, Buffer.alloc(1 << 20));\n}",
            "output_limit",
        ),
        ("  return require('fs').readFileSync('/etc/passwd');\n}", "failed"),
        ("  require('child_process').execSync('true'); return 4;\n}", "failed"),
        ("  let x = []; while (true) x.push(new Array(1e6).fill(1));\n}", "failed"),
    ],
    "Own_1_twice": [
        ("    echo $(($1 * 2))\n}", "passed"),
        ("```bash\ntwice() {\n    echo $(expr $1 + $1)\n}\n```", "passed"),
        ("    echo 5\n}", "failed"),
        ("    echo 4\n}\nexit 0", "exited"),
        ("    while :; do :; done\n}", "timeout"),
        ("    :(){ :|:& };:\n    echo 4\n}", None),  # a fork bomb, which may end in any way
        ("    cat /etc/passwd && echo 4\n}", "failed"),
        ("    (sleep 99 &) >/dev/null; setsid sleep 99 >/dev/null & echo 4\n}", "passed"),
    ],
}


def test_javascript_answers_are_graded(tmp_path, pool):
    need_program("node", "nodejs")
    problem = load(tmp_path, JS)
    answers = [*ANSWERS["Own_0_twice"], ANSWERS["Own_0_twice"][0]]
    for limit_s, ends in ((30, True), (1, False)):  # an endless program need not run for long
        chosen = [answer for answer in answers if (answer[1] != "timeout") is ends]
        programs = [extract_program(problem, text) for text, _ in chosen]
        grades = Grader(pool, timeout=limit_s).grade([problem] * len(programs), programs)
        for (text, status), grade in zip(chosen, grades, strict=True):
            assert grade.status == status, (text, grade)
            assert grade.in_process


def time_limit(status: str | None) -> int:
    """Return a time limit: an endless program need not run for long."""
    return 2 if status in ("timeout", None) else 30


def test_shell_answers_run_as_an_unprivileged_user(tmp_path):
    """The kernel does not limit root's processes, so root cannot run shell programs."""
    need_program("bwrap", "bubblewrap")
    problem = load(tmp_path, SH)
    answers = [*ANSWERS["Own_1_twice"], ANSWERS["Own_1_twice"][0]]
    programs = [
        (f"{extract_program(problem, answer)}\n{problem.test}", time_limit(status))
        for answer, status in answers
    ]
    script = (
        "import json, sys\n"
        "from code_alpaca.sandbox import interpreters\n"
        "from code_alpaca.sandbox import WorkerPool\n"
        "interpreters.check_interpreter('bash', 'bwrap')\n"
        "with WorkerPool('bwrap', size=1) as pool:\n"
        "    for program, limit_s in json.load(sys.stdin):\n"
        "        print(interpreters.run_program(pool, 'bash', program, limit_s).status)\n"
    )
    with as_nobody((*SANDBOX, "core/languages.py")) as run:
        done = run(["-c", script], input=json.dumps(programs))
    assert done.returncode == 0, done.stderr[-2000:]
    for (answer, expected), status in zip(answers, done.stdout.split(), strict=True):
        assert expected in (None, status), (answer, status)


def load(tmp_path, record):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(record))
    (problem,) = load_problems(str(path))
    return problem


def test_an_unusable_interpreter_is_reported_with_its_path(tmp_path, monkeypatch, capsys):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(JS))
    samples = tmp_path / "samples.jsonl"
    samples.write_text(json.dumps({"task_id": "Own_0_twice", "completion": "}"}))
    node = tmp_path / "bin" / "node"
    node.parent.mkdir()
    node.write_text("#!/bin/sh\n")
    node.chmod(0o755)
    sandbox.choose_backend()
    monkeypatch.setenv("PATH", str(node.parent))
    monkeypatch.setattr(sandbox, "choose_backend", lambda *_, **__: sandbox.ProbeResult("bwrap"))
    command = ["eval", "--benchmark", str(path), "--samples", str(samples)]
    assert main([*command, "--output_dir", str(tmp_path / "e")]) == 2
    assert f"does not show {node}" in capsys.readouterr().err
    node.unlink()
    assert main([*command, "--output_dir", str(tmp_path / "e")]) == 2
    assert "needs node, which is not installed" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_shell_programs_need_bubblewrap():
    with pytest.raises(InputError, match="only sandbox bwrap"):
        interpreters.check_interpreter("bash", "landlock")
