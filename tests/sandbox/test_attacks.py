"""Nothing fools the verdict and nothing gets out: every attack, every backend, root and nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attacks import FALSE_PASSES, HARMS, attack
from forgeries import forge
from unprivileged import GRADING, SANDBOX, as_nobody

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
    attacks = Path(__file__).with_name("attacks.py")
    with as_nobody(SANDBOX, [attacks]) as run:
        done = run(["attacks.py", backend])
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
    here = Path(__file__)
    with as_nobody(GRADING, [here.with_name("attacks.py"), here.with_name("forgeries.py")]) as run:
        done = run(["forgeries.py", backend])
    assert done.returncode == 0, done.stderr[-2000:]
    assert {name: grade for name, grade in json.loads(done.stdout).items() if grade} == {}
