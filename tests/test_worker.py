"""Worker processes that compute slices (training/worker.py): the same bits with them as without, whatever happens.

Catches: a worker that computes something else, or silently nothing; an answer taken for that to a later request; a
leftover process or file; training that hangs or fails because a worker ended.
"""

import io
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import checks
import numpy as np
import pytest

import tinyvrnn as tv
from tinyvrnn.arrays import ranks
from tinyvrnn.models.batch import Batch, Objective
from tinyvrnn.training import parallel, worker
from tinyvrnn.training.parallel import Workers


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    """As many processes as the tests ask for, on any machine."""
    monkeypatch.setattr(parallel, "available_cores", lambda: 4)


@pytest.fixture
def nobody_rests(monkeypatch):
    """Each test starts its own workers and ends them."""
    resting = []
    monkeypatch.setattr(worker, "_resting", resting)
    yield
    for other in resting:
        other.stop()


@pytest.fixture
def one():
    found = worker.Worker()
    yield found
    found.stop()


@pytest.fixture
def ctrl_c():
    """Restore SIGINT, which `serve` ignores."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def until_it_is_ready(found, model):
    found.wait(model)
    assert not found.ended, "the worker did not come up"


def batch(model, B=6):
    draw = np.random.default_rng(0)
    x = (draw.random((5, B, model.x_dim)) < 0.5).astype(model.dtype)
    return x, np.full(B, 5), draw.standard_normal((5, B, model.z_dim)).astype(model.dtype)


def vrnn(**options):
    return tv.VRNN(4, 8, 3, **options)


@pytest.mark.parametrize("likelihood", sorted(tv.distributions.LIKELIHOODS))
@pytest.mark.parametrize("model", sorted(tv.models.MODELS))
@pytest.mark.one_in(3)
def test_a_worker_computes_the_same_bits(one, model, likelihood):
    model, x, lengths, eps = checks.small(likelihood, model=model)
    until_it_is_ready(one, model)
    assert one.ask(model, Batch(x, lengths, eps), Objective(beta=0.3))
    loss, grads, parts, _ = one.answer()
    expected = model.loss_and_grads(x, lengths, eps, 0.3)
    assert loss == expected[0] and (grads == expected[1]).all() and grads.dtype == model.dtype
    assert all((a == b).all() for a, b in zip(parts, expected[2]))


@pytest.mark.skipif(not hasattr(os, "getsid"), reason="has no sessions of processes")
def test_a_workers_session_is_its_own_so_that_ctrl_c_does_not_reach_it(one):
    assert os.getsid(one.pid) == one.pid != os.getsid(0)


def test_a_worker_sees_the_weights_of_each_moment_and_the_state_of_a_chunk(one):
    model = vrnn()
    until_it_is_ready(one, model)
    x, lengths, eps = batch(model)
    for factor in (1, 2):
        model.theta = model.theta * factor
        state = np.full((6, 8), 0.5, model.dtype)
        assert one.ask(model, Batch(x, lengths, eps, state=state), Objective())
        loss, grads, _, after = one.answer()
        expected = model.chunk_loss_and_grads(x, lengths, eps, state=state)
        assert loss == expected[0] and (grads == expected[1]).all() and (after == expected[3]).all()


def test_the_shared_file_has_no_name_once_the_worker_is_ready(one, monkeypatch):
    model = vrnn()
    one.wait(model)
    assert len(one._paths) == 1 and not os.path.exists(one._paths[0])
    one.stop()
    assert one._paths == []


def test_another_model_takes_the_place_of_the_first(one):
    for model in (vrnn(), tv.VRNN(4, 5, 2, likelihood="gaussian", dtype="float64")):
        until_it_is_ready(one, model)
        x, lengths, eps = batch(model)
        assert one.ask(model, Batch(x, lengths, eps), Objective())
        assert (one.answer()[1] == model.loss_and_grads(x, lengths, eps)[1]).all()


def test_what_the_model_raises_is_raised_here_and_the_worker_lives(one):
    model = vrnn()
    until_it_is_ready(one, model)
    x, lengths, eps = batch(model)
    assert one.ask(model, Batch(x + 7, lengths, eps), Objective())
    with pytest.raises(tv.DataError, match="x holds 7 to 8, but a Bernoulli likelihood needs"):
        one.answer()
    assert one.ask(model, Batch(x, lengths, eps), Objective()) and one.answer()[0] > 0


def plan_of(model, folder):
    memory = folder / "memory"
    memory.write_bytes(bytes(2 * model.theta.nbytes + model.theta.itemsize))
    return tv.VRNN, model.config, str(memory)


class OwnModel(tv.VRNN):
    """A user's model class, which a worker cannot rebuild."""


def test_what_a_user_changed_is_computed_here(one, monkeypatch):
    model = vrnn()
    assert parallel.can_be_made_again(model) and not parallel.can_be_made_again(vrnn(backend="strict"))
    assert tv.VRNNI.__annotations__ == {}, "looking at them stores them in the class"
    assert parallel.can_be_made_again(tv.VRNNI(4, 8, 3))
    for kind in (tv.VRNN, tv.models.base.Model):
        with monkeypatch.context() as m:
            m.setattr(kind, "_backward_terms", lambda *arguments: None, raising=False)
            assert not parallel.can_be_made_again(model)
    with monkeypatch.context() as m:
        m.setitem(tv.distributions.LIKELIHOODS, "bernoulli", model.likelihood._replace(mean=lambda a: a))
        assert not parallel.can_be_made_again(vrnn())
    assert parallel.can_be_made_again(model)


def test_models_of_users_are_computed_here(monkeypatch):
    tidy = vrnn()
    tidy.likelihood = tidy.likelihood._replace(mean=lambda a: a)
    for model in (OwnModel(4, 8, 3), tidy):
        assert not parallel.can_be_made_again(model)
        with Workers(2) as workers:
            monkeypatch.setattr(workers._others[0], "ask", None)
            workers.wait(model)  # not for ever
            assert np.isfinite(workers.gradient(model, Batch(*batch(model)), Objective()).loss)
    assert parallel.can_be_made_again(vrnn()) and parallel.can_be_made_again(vrnn(likelihood="gmm", components=3))


def test_the_total_of_two_ranks_with_equal_parts_is_that_of_one():
    model = vrnn()
    found = model.gradient(Batch(*batch(model)), Objective())

    class Two(ranks.Ranks):
        size = 2

        def sum(self, a, wait=0.0):
            return 2 * a

    with ranks.shared_out(Two()):
        loss, grads, terms, _ = parallel.total(model, found, 6)
    checks.assert_close(loss, found.loss, 1e-6)
    checks.assert_close(grads, found.grads, 1e-6)
    for term, own in zip(terms, found.terms, strict=True):
        checks.assert_close(term, 2 * own.sum(keepdims=True), 1e-6)


def test_a_worker_that_was_killed_is_done_without(one):
    model = vrnn()
    until_it_is_ready(one, model)
    assert one.ask(model, Batch(*batch(model, B=2000)), Objective())
    one._process.kill()
    with pytest.raises(EOFError):
        one.answer()
    assert not one.ask(model, Batch(*batch(model)), Objective()) and one.ended


def test_an_answer_that_nobody_fetched_is_not_that_to_the_next_question(one):
    model = vrnn()
    until_it_is_ready(one, model)
    assert one.ask(model, Batch(*batch(model)), Objective())
    assert not one.ask(model, Batch(*batch(model, B=3)), Objective()) and one.ended


def test_an_interruption_while_asking_leaves_no_answer_to_a_later_question(monkeypatch):
    model, other = vrnn(), tv.VRNN(4, 8, 3, seed=1)
    with Workers(2) as workers, pytest.raises(KeyboardInterrupt):
        workers.wait(model)
        send = workers._others[0]._send

        def interrupted(message):
            send(message)
            raise KeyboardInterrupt

        workers._others[0]._send = interrupted
        workers.gradient(model, Batch(*batch(model)), Objective())
    with Workers(2) as workers:
        workers.wait(other)
        found = workers.gradient(other, Batch(*batch(other)), Objective())
    with Workers(2) as workers:
        workers._others[0].stop()
        expected = workers.gradient(other, Batch(*batch(other)), Objective())
    assert found[0] == expected[0] and (found[1] == expected[1]).all()


def test_what_the_package_prints_does_not_get_among_the_answers(tmp_path):
    """A student's print in a copy of the package: the worker's goes nowhere, and training goes on."""
    shutil.copytree(Path(tv.__file__).parent, tmp_path / "tinyvrnn", ignore=shutil.ignore_patterns("__pycache__"))
    schedule = tmp_path / "tinyvrnn" / "models" / "schedule.py"
    text = schedule.read_text().replace(
        "    c = _empty_loop_cache(", "    print('T is', T, flush=True)\n    c = _empty_loop_cache("
    )
    schedule.write_text(text + "\nprint('imported', flush=True)\n")
    code = """if True:
        import numpy as np, tinyvrnn as tv
        from tinyvrnn.models.batch import Batch, Objective
        from tinyvrnn.training.parallel import Workers
        model = tv.VRNN(4, 8, 3)
        batch = np.zeros((3, 2, 4), "float32"), np.array([3, 3]), np.zeros((3, 2, 3), "float32")
        with Workers(2) as workers:
            workers.wait(model)
            losses = [workers.gradient(model, Batch(*batch), Objective())[0] for _ in range(3)]
            print("up", len(workers.pids), [round(float(loss), 3) for loss in losses])
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    loss = round(float(vrnn().loss_and_grads(np.zeros((3, 2, 4), "f4"), None, np.zeros((3, 2, 3), "f4"))[0]), 3)
    assert done.stdout.splitlines() == ["imported", *["T is 3"] * 3, f"up 1 {[loss] * 3}"] and done.stderr == ""


@pytest.mark.parametrize("set_it", ["TINYVRNN_BACKEND=strict", "PYTHONWARNINGS=error"])
def test_the_environment_changes_nothing_that_a_worker_computes(set_it, monkeypatch, nobody_rests):
    monkeypatch.setenv(*set_it.split("="))
    model = vrnn(backend="numpy")
    model.theta = model.theta * 1e30 if "error" in set_it else model.theta
    x, lengths, eps = batch(model)
    with Workers(2) as workers, np.errstate(all="ignore"):
        workers.wait(model)
        for _ in range(2):
            loss, grads, *_ = workers.gradient(model, Batch(x, lengths, eps), Objective())
        assert len(workers.pids) == 1
    assert np.isfinite(loss) == ("error" not in set_it) and grads.shape == model.theta.shape


def test_a_path_that_is_no_text_is_left_out(monkeypatch, tmp_path, nobody_rests):
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])
    with Workers(2) as workers:
        workers.wait(vrnn())
        assert len(workers.pids) == 1


def test_a_file_that_cannot_be_removed_yet_is_removed_at_the_end(one, monkeypatch):
    """As on Windows, which removes no file that a process maps."""
    with monkeypatch.context() as m:
        m.setattr(worker.os, "unlink", lambda _: (_ for _ in ()).throw(PermissionError()))
        one._paths = [tempfile.mkstemp()[1]]
        one._let_go()
        assert os.path.exists(one._paths[0])
    path = one._paths[0]
    one.stop()
    assert one._paths == [] and not os.path.exists(path)


@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_workers_give_the_same_bits_when_one_is_killed(moment):
    model = vrnn()
    x, lengths, eps = batch(model)
    with Workers(3) as workers:
        expected = workers.gradient(model, Batch(x, lengths, eps), Objective())
        workers.wait(model)
        assert len(workers.pids) == 2
        whole = workers.gradient(model, Batch(x, lengths, eps), Objective())
        first, found = workers._others[0], []
        if moment == "before":
            first._process.kill()
        if moment == "within":
            ask = first.ask
            first.ask = lambda *call: (ask(*call), first._process.kill())[0]
        found.append(workers.gradient(model, Batch(x, lengths, eps), Objective()))
        if moment == "after":
            first._process.kill()
        found += [workers.gradient(model, Batch(x, lengths, eps), Objective()) for _ in range(2)]
        assert len(workers.pids) == 1
    for loss, grads, parts, _ in (whole, *found):
        assert loss == expected[0] and (grads == expected[1]).all() and (parts.elbo == expected[2].elbo).all()


@pytest.mark.parametrize("cores, slices_here", [(4, 1), (2, 2), (1, 3)])
def test_the_slices_for_other_cores_are_computed_there(monkeypatch, cores, slices_here):
    """Otherwise all tests above would pass with workers that never work. The bits are those of three slices."""
    model, here = vrnn(), []
    x, lengths, eps = batch(model)
    with Workers(3) as workers:
        expected = workers.gradient(model, Batch(x, lengths, eps), Objective())
    monkeypatch.setattr(parallel, "available_cores", lambda: cores)
    with Workers(3) as workers:
        workers.wait(model)
        own = model.gradient
        monkeypatch.setattr(model, "gradient", lambda batch, *a: here.append(batch.x) or own(batch, *a))
        found = workers.gradient(model, Batch(x, lengths, eps), Objective())
        few = workers.gradient(model, Batch(x[:, :1], lengths[:1], eps[:, :1]), Objective())
    assert [a.shape[1] for a in here] == [2] * slices_here + [1]
    assert found.loss == expected.loss and (found.grads == expected.grads).all() and np.isfinite(few.loss)


def test_a_worker_rests_after_a_training_and_serves_the_next():
    with Workers(2) as workers:
        first = workers._others[0]
        until_it_is_ready(first, vrnn())
    assert first._shared is first._model is None and first._paths == [] and not first.ended
    with Workers(2) as workers:
        assert workers._others == [first]
    assert first in worker._resting
    first._process.kill()
    first._process.wait()
    with Workers(2) as workers:
        assert workers._others != [first] and not workers._others[0].ended


def test_one_that_still_computes_does_not_rest():
    model = vrnn()
    with Workers(2) as workers:
        other = workers._others[0]
        until_it_is_ready(other, model)
        assert other.ask(model, Batch(*batch(model)), Objective())
    assert other.ended and other not in worker._resting


def test_a_forked_process_leaves_the_workers_of_its_parent_alone():
    if not hasattr(os, "fork"):
        pytest.skip("needs os.fork")
    code = """if True:
        import os, warnings
        from tinyvrnn.training import parallel, worker
        warnings.simplefilter("ignore")  # Python warns of a fork with threads, here BLAS's
        worker.hire().rest()
        pid = os.fork()
        assert len(worker._resting) == (pid > 0), worker._resting
        os._exit(0) if pid == 0 else None
        assert os.waitpid(pid, 0)[1] == 0
        assert not worker._resting[0].ended
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="asks /proc what runs")
def test_no_process_and_no_file_stays(tmp_path):
    """A process that trains with a worker is killed: the worker ends too, and the shared file is unlinked."""
    code = """if True:
        import sys, numpy as np, tinyvrnn as tv
        from tinyvrnn.models.batch import Batch, Objective
        from tinyvrnn.training.worker import Worker
        model, worker = tv.VRNN(4, 8, 3), Worker()
        x, eps = np.zeros((3, 2, 4), "float32"), np.zeros((3, 2, 3), "float32")
        worker.wait(model)
        worker.ask(model, Batch(x, None, eps), Objective())
        print(worker.pid, flush=True)
        sys.stdin.read()
    """
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, **pipes) as parent:
        pid = int(parent.stdout.readline())
        assert list(tmp_path.iterdir()) == []
        parent.kill()
    end = time.monotonic() + 30
    while is_there(pid):
        assert time.monotonic() < end, "the worker outlived its parent"
        time.sleep(0.05)


def is_there(pid):
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Broken(io.BytesIO):
    """A pipe without a reader."""

    def write(self, _):
        raise BrokenPipeError


@pytest.mark.parametrize("end", [b"", b"\x80", b"rubbish"], ids=["end", "cut", "rubbish"])
def test_serving_ends_without_a_word_when_the_other_process_has(end, capfd, ctrl_c):
    worker.serve(io.BytesIO(end), Broken())
    assert capfd.readouterr() == ("", "")


def test_an_answer_that_cannot_be_given_ends_the_serving(tmp_path, ctrl_c):
    model = vrnn()
    plan = plan_of(model, tmp_path)
    asked = io.BytesIO(pickle.dumps(plan) + pickle.dumps((Batch(*batch(model)), Objective())))
    worker.serve(asked, Broken())
    assert asked.read() == b""


def test_rest_and_stop_of_one_that_ends_in_this_moment(one, monkeypatch):
    def broken(_):
        raise BrokenPipeError

    monkeypatch.setattr(one, "_send", broken)
    one.rest()
    assert not one.ended
    one._process.stdin.write(b"what was not yet sent")
    assert one.stop() is False and one.ended


def test_a_system_without_room_for_a_process_or_a_file_is_no_harm(monkeypatch, tmp_path):
    model = vrnn()
    x, lengths, eps = batch(model)
    expected = model.loss_and_grads(x, lengths, eps)[0]

    def full(*arguments, **options):
        raise OSError("no room")

    with monkeypatch.context() as m:
        m.setattr(worker, "_resting", [])
        m.setattr(worker.subprocess, "Popen", full)
        with Workers(2) as workers:
            assert workers.gradient(model, Batch(x, lengths, eps), Objective())[0] == pytest.approx(expected)
            workers.wait(model)
            assert workers._others[0].ended and workers.pids == [] and workers._others[0].pid is None
    with monkeypatch.context() as m:
        m.setattr(worker.sys, "executable", None)
        assert worker.Worker().ended
    monkeypatch.setattr(worker.tempfile, "mkstemp", full)
    with Workers(2) as workers:
        assert workers.gradient(model, Batch(x, lengths, eps), Objective())[0] == pytest.approx(expected)


def test_numbers_that_overflow_are_an_answer_and_no_error(one):
    model = vrnn()
    model.theta[...] = 1e30
    one.wait(model)
    assert one.ask(model, Batch(*batch(model)), Objective()) and not np.isfinite(one.answer().loss)


def test_serving_in_this_process_word_for_word(tmp_path, ctrl_c):
    """`serve` as its process runs it, on files: a plan, a question, one that raises, a rest, and the end."""
    model = vrnn()
    x, lengths, eps = batch(model)
    plan = plan_of(model, tmp_path)
    theta, grads, ready = worker.share(plan[2], model.dtype)
    theta[...] = model.theta * 2
    asked, answers = io.BytesIO(), io.BytesIO()
    good, bad = (x, lengths, eps), (x[0], lengths, eps)
    for message in (
        None,
        (*plan[:2], str(tmp_path / "gone")),
        plan,
        (Batch(*good), Objective(beta=0.3)),
        (Batch(*bad), Objective(beta=0.5)),
        None,
    ):
        pickle.dump(message, asked)
    asked.write(b"\x80")  # a parent killed while sending a request
    asked.seek(0)
    worker.serve(asked, answers)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    answers.seek(0)
    model.theta = model.theta * 2
    loss, expected, parts = model.loss_and_grads(*good, beta=0.3)
    found, error = pickle.load(answers), pickle.load(answers)
    assert found.loss == loss and (found.terms.elbo == parts.elbo).all() and found.grads is None
    assert (grads == expected).all() and ready.tolist() == [1] and not (tmp_path / "memory").exists()
    assert type(error) is tv.DataError and answers.read() == b""
