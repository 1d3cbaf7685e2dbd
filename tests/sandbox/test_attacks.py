"""Nothing fools the verdict and nothing gets out: every attack, every backend, root and nobody."""

from __future__ import annotations

import json

import pytest
from support.attacks import FALSE_PASSES, HARMS, attack
from support.forgeries import forge
from support.unprivileged import GRADING, SANDBOX, as_nobody

from code_alpaca.sandbox import backends

BACKENDS = [name for name in backends.SAFE if backends.available(name) is None]


def test_there_is_a_sandbox_here():
    assert BACKENDS, "install bubblewrap, or use a kernel with Landlock"
    assert len(FALSE_PASSES) + len(HARMS) >= 34


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_gets_through(backend):
    got = attack(backend)
    assert {name: harm for name, harm in got.items() if harm} == {}


@pytest.mark.parallel
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_gets_through_as_nobody(backend):
    with as_nobody(SANDBOX, ["attacks.py"]) as run:
        done = run(["-m", "support.attacks", backend])
    assert done.returncode == 0, done.stderr[-2000:]
    assert {name: harm for name, harm in json.loads(done.stdout).items() if harm} == {}


@pytest.mark.parametrize(
    "backend",
    [*BACKENDS[:1], *(pytest.param(name, marks=pytest.mark.parallel) for name in BACKENDS[1:])],
)
def test_no_forgery_is_graded_as_passed(backend):
    got = forge(backend)
    assert {name: grade for name, grade in got.items() if grade} == {}


@pytest.mark.parallel
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_forgery_is_graded_as_passed_as_nobody(backend):
    with as_nobody(GRADING, ["attacks.py", "forgeries.py"]) as run:
        done = run(["-m", "support.forgeries", backend])
    assert done.returncode == 0, done.stderr[-2000:]
    assert {name: grade for name, grade in json.loads(done.stdout).items() if grade} == {}
