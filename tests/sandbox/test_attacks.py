"""No attack fools a verdict or does harm, in any backend, as root or as an unprivileged user."""

from __future__ import annotations

import json
import math

import pytest
from support.attacks import FALSE_PASSES, HARMS, Victim, do_harm, run_attacks
from support.forgeries import grade_forgeries
from support.sandboxes import BACKENDS
from support.unprivileged import GRADING, SANDBOX, as_nobody

from code_alpaca.sandbox import Worker


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
    ("attack", "harm"),
    [
        ("read a secret", "a secret was printed"),
        ("list outside", "a secret was printed"),
        ("watch outside", "a secret was printed"),
        ("signal through a descriptor's owner", "a secret was printed"),
        ("outlive the parent", "a secret was printed"),
        ("listen on TCP", "a secret was printed"),
        ("execute another program", "a secret was printed"),
        ("write outside", "files changed"),
        ("loopback TCP", "the network was reached"),
    ],
)
def test_the_harm_of_an_attack_is_noticed_where_nothing_stops_it(attack, harm):
    """Otherwise the tests above would pass with any sandbox."""
    with Worker("rlimit") as worker, Victim() as victim:
        assert do_harm(HARMS[attack], math.inf, worker, victim) == harm


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
