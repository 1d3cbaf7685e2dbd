"""No attack fools a verdict or does harm, in any backend, as root or as an unprivileged user."""

from __future__ import annotations

import json

import pytest
from support.attacks import FALSE_PASSES, HARMS, run_attacks
from support.forgeries import grade_forgeries
from support.unprivileged import GRADING, SANDBOX, as_nobody

from code_alpaca.sandbox import backends

BACKENDS = [name for name in backends.SAFE if backends.find_problem(name) is None]


def test_a_sandbox_is_available():
    assert BACKENDS, "install bubblewrap, or use a kernel with Landlock"
    assert len(FALSE_PASSES) + len(HARMS) >= 34


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_attack_achieves_anything(backend):
    achieved = run_attacks(backend)
    assert {name: harm for name, harm in achieved.items() if harm} == {}


@pytest.mark.parallel
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_attack_achieves_anything_as_nobody(backend):
    with as_nobody(SANDBOX, ["attacks.py"]) as run:
        done = run(["-m", "support.attacks", backend])
    assert done.returncode == 0, done.stderr[-2000:]
    assert {name: harm for name, harm in json.loads(done.stdout).items() if harm} == {}


@pytest.mark.parametrize(
    "backend",
    [*BACKENDS[:1], *(pytest.param(name, marks=pytest.mark.parallel) for name in BACKENDS[1:])],
)
def test_no_forgery_is_graded_as_passed(backend):
    assert grade_forgeries(backend) == {}


@pytest.mark.parallel
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_forgery_is_graded_as_passed_as_nobody(backend):
    with as_nobody(GRADING, ["attacks.py", "forgeries.py"]) as run:
        done = run(["-m", "support.forgeries", backend])
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == {}
