"""Requests are answered once, whatever happens to their engine; failures say what was given and what to do."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import pickle
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import collage
import pytest
from conftest import ROOT, Digits

#: Every run of the only worker takes this much longer, so that requests are found in flight.
SLOW = "pause:0:200"


def slow(**settings: Any) -> collage.Engine:
    return collage.Engine(device="cpu:1", policy="none", max_batch=1, deadline=60, stragglers=[SLOW], **settings)


def test_digits_are_recognised_in_their_order(engine: collage.Engine, digits: Digits) -> None:
    answers = engine.classify(digits.images[..., None])
    right = sum(answer.class_index == expected for answer, expected in zip(answers, digits.classes, strict=True))
    card = (ROOT / "weights" / "digits-base.md").read_text()
    assert f"{right} of {len(digits.classes)}" in card
    one = answers[0]
    assert one.label == engine.labels[one.class_index] == one.top[0].label
    assert one.confidence == one.top[0].score
    assert len(one.top) == 5 and sorted((s.score for s in one.top), reverse=True) == [s.score for s in one.top]
    assert (one.source, one.collage, one.tile, one.worker) == ("base", None, None, 0)
    assert [answer.request for answer in answers] == list(range(len(answers)))
    stats = engine.stats()
    assert stats["submitted"] == stats["base"] == len(answers) and stats["pending"] == 0
    assert stats["workers"][0]["device_name"]


def test_collage_answers_where_the_base_is_late(digits: Digits) -> None:
    with collage.Engine(device="cpu:1", grid="2x2", release=0, deadline=60, stragglers=["pause:0:500"]) as engine:
        answers = engine.classify(list(digits.images[:4]))
        late = [answer for answer in answers if answer.source == "collage"]
        assert late, answers
        for answer in late:
            assert answer.collage is not None and answer.tile in range(4) and answer.worker == 1


def test_ticket_is_a_future(engine: collage.Engine, digits: Digits) -> None:
    told: list[collage.Answer] = []
    ticket = engine.submit(digits.images[0])
    ticket.add_done_callback(lambda done: told.append(done.result()))
    answer = ticket.result(timeout=30)
    assert ticket.done() and not ticket.cancelled() and ticket.exception() is None
    assert ticket.result() is answer and not ticket.cancel()
    after: list[str] = []
    ticket.add_done_callback(lambda done: after.append(threading.current_thread().name))
    assert after == [threading.current_thread().name]
    engine.close()  # every callback has returned
    assert told == [answer]


def test_tickets_go_where_futures_go(engine: collage.Engine, digits: Digits) -> None:
    tickets = [engine.submit(image) for image in digits.images[:20]]
    assert concurrent.futures.wait(tickets, timeout=30).not_done == set()
    assert set(concurrent.futures.as_completed(tickets)) == set(tickets)

    async def gather() -> list[collage.Answer]:
        return await asyncio.gather(*(asyncio.wrap_future(engine.submit(image)) for image in digits.images[:20]))

    answers = asyncio.run(gather())
    assert [a.class_index for a in answers] == [t.result().class_index for t in tickets]


def test_waiting_lets_other_threads_run(digits: Digits) -> None:
    with slow() as engine:
        turns = 0
        waiter = threading.Thread(target=lambda: engine.classify([digits.images[0]]))
        waiter.start()
        while waiter.is_alive():
            turns += 1
            time.sleep(0.001)
        # Were the interpreter's lock held while C waits, this thread's first turn would be its last.
        assert turns > 3


def test_result_times_out_and_comes_later(digits: Digits) -> None:
    with slow() as engine:
        ticket = engine.submit(digits.images[0])
        with pytest.raises(TimeoutError):
            ticket.result(timeout=0.001)
        assert not ticket.done()
        assert ticket.result(timeout=30).class_index == digits.classes[0]


def test_cancelled_request_has_no_answer(digits: Digits) -> None:
    images, classes = digits.sure(4)
    with slow() as engine:
        tickets = [engine.submit(image) for image in images]
        told: list[bool] = []
        tickets[3].add_done_callback(lambda ticket: told.append(ticket.cancelled()))
        assert tickets[3].cancel() and tickets[3].cancelled() and tickets[3].done()
        with pytest.raises(concurrent.futures.CancelledError):
            tickets[3].result()
        assert [t.result().class_index for t in tickets[:3]] == classes[:3]
        assert told == [True]
    assert engine.stats()["cancelled"] == 1 and engine.stats()["base"] == 3


def test_deadline_that_passes_is_an_error_of_its_own(digits: Digits) -> None:
    with slow() as engine:
        ticket = engine.submit(digits.images[0], deadline=timedelta(milliseconds=10))
        with pytest.raises(collage.DeadlineExceeded) as caught:
            ticket.result()
        assert caught.value.code == 401 and isinstance(caught.value, TimeoutError)
        with pytest.raises(collage.DeadlineExceeded):
            engine.classify([digits.images[0]], deadline=0.01)
        kept = engine.classify([digits.images[0], b"no image"], deadline=0.01, return_exceptions=True)
        assert [type(error) for error in kept] == [collage.DeadlineExceeded, collage.ImageError]
        late = engine.submit(digits.images[0], deadline=1.0, due=collage.now() - 2.0)
        with pytest.raises(collage.DeadlineExceeded):
            late.result()


def test_full_queue_is_refused_at_once_and_classify_waits_for_room(digits: Digits) -> None:
    images, classes = digits.sure(5)
    with slow(queue=2) as engine:
        held = [engine.submit(image) for image in images[:2]]
        with pytest.raises(collage.Overloaded) as caught:
            engine.submit(digits.images[2])
        assert caught.value.code == 400 and caught.value.can_retry
        assert [t.result().class_index for t in held] == classes[:2]
        assert [a.class_index for a in engine.classify(list(images))] == classes


def test_closing_answers_what_was_accepted(digits: Digits) -> None:
    images, classes = digits.sure(4)
    engine = slow()
    tickets = [engine.submit(image) for image in images]
    assert not tickets[3].done()
    engine.close()
    assert all(ticket.done() for ticket in tickets)
    assert [ticket.result().class_index for ticket in tickets] == classes
    assert engine.closed and engine.stats()["base"] == 4 and engine.labels[3] == "3"
    engine.close()
    with pytest.raises(collage.EngineClosed) as caught:
        engine.submit(digits.images[0])
    assert caught.value.code == 405
    with pytest.raises(collage.EngineClosed):
        engine.classify([digits.images[0]])


def test_engine_that_nobody_closed_answers_before_it_goes(digits: Digits) -> None:
    engine = slow()
    ticket = engine.submit(digits.images[0])
    with pytest.warns(ResourceWarning, match="not closed"):
        del engine
        gc.collect()
    assert ticket.result(timeout=0).class_index == digits.classes[0]


def test_engine_may_lose_its_last_reference_in_a_callback(digits: Digits) -> None:
    holder = [slow()]
    ticket = holder[0].submit(digits.images[0])
    gone = threading.Event()

    def forget(_: Any) -> None:
        holder.clear()
        gone.set()

    ticket.add_done_callback(forget)
    with pytest.warns(ResourceWarning):
        assert ticket.result(timeout=30).class_index == digits.classes[0]
        assert gone.wait(30)
    for thread in threading.enumerate():
        if thread.name == "collage-end":
            thread.join(30)
            assert not thread.is_alive()


def test_closing_from_a_callback_is_refused(digits: Digits) -> None:
    with slow() as engine:
        caught: list[BaseException] = []

        def close(_: Any) -> None:
            try:
                engine.close()
            except collage.CollageError as error:
                caught.append(error)

        ticket = engine.submit(digits.images[0])
        ticket.add_done_callback(close)
        ticket.result()
        engine.close()
        assert [error.code for error in caught] == [608]  # type: ignore[attr-defined]


def test_interpreter_may_end_with_requests_in_flight(digits: Digits) -> None:
    script = f"""
import collage
engine = collage.Engine(device="cpu:1", policy="none", max_batch=1, deadline=60, stragglers=[{SLOW!r}])
digit = memoryview({digits.images[0].tobytes()!r}).cast("B", (8, 8))
for _ in range(3):
    engine.submit(digit).add_done_callback(lambda ticket: print(ticket.result().class_index))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{digits.classes[0]}\n" * 3


def test_many_threads_share_an_engine(engine: collage.Engine, digits: Digits) -> None:
    def work(start: int) -> int:
        own = range(start, start + 40)
        tickets = [engine.submit(digits.images[i]) for i in own]
        for ticket in tickets[::4]:
            ticket.cancel()
        kept = [(i, t) for i, t in zip(own, tickets, strict=True) if not t.cancelled()]
        assert engine.stats()["submitted"] > 0
        with pytest.raises(collage.ImageError):
            engine.submit(b"no image")
        answers = engine.classify([digits.images[i] for i in own])
        assert all(t.result().class_index == answers[i - start].class_index for i, t in kept)
        return len(own) + len(tickets)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        sent = sum(pool.map(work, range(0, 320, 40)))
    stats = engine.stats()
    assert stats["submitted"] == sent and stats["base"] + stats["cancelled"] == sent and stats["pending"] == 0


def test_engine_closed_under_many_threads_leaves_nobody_waiting(digits: Digits) -> None:
    engine = collage.Engine(device="cpu:1", policy="none", deadline=60)
    begun = threading.Barrier(5)

    def work(_: int) -> list[collage.Ticket]:
        tickets: list[collage.Ticket] = []
        begun.wait()
        try:
            while True:
                with_room = len(tickets) % 64 != 63 or tickets[-1].result() is not None
                assert with_room
                tickets.append(engine.submit(digits.images[len(tickets) % 100]))
        except collage.EngineClosed:
            return tickets

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        work_done = [pool.submit(work, i) for i in range(4)]
        begun.wait()
        time.sleep(0.05)
        engine.close()
        tickets = [ticket for done in work_done for ticket in done.result(timeout=60)]
    assert all(ticket.done() for ticket in tickets)
    for ticket in tickets:
        assert ticket.exception() is None or isinstance(ticket.exception(), collage.EngineClosed)


def test_one_image_is_not_mistaken_for_many(engine: collage.Engine, digits: Digits, folder: Path) -> None:
    for one in (str(folder / "00.png"), folder / "00.png", b"\x89PNG"):
        with pytest.raises(TypeError, match="expected a list of images"):
            engine.classify(one)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(8, 8\); expected \(N, H, W, C\)"):
        engine.classify(digits.images[0])
    assert engine.classify([]) == []


@pytest.mark.parametrize(
    ("settings", "error", "code", "message"),
    [
        ({"relese": "1ms"}, collage.SettingError, 503, "nearest is `release`"),
        ({"grid": "3 by 3"}, collage.SettingError, 504, "grid"),
        ({"release": "1 fortnight"}, collage.SettingError, 504, "release"),
        ({"release": 2, "deadline": 1}, collage.SettingError, 506, "release"),
        ({"workers": 0}, collage.ServingError, 410, "workers"),
        ({"workers": "two"}, collage.SettingError, 504, "workers"),
        ({"policy": "hope"}, collage.SettingError, 504, "policy"),
        ({"device": "abacus"}, collage.DeviceError, 320, "abacus"),
        ({"device": ["cpu:1", "cpu:none"]}, collage.DeviceError, 320, "none"),
        ({"model": "absent.safetensors"}, collage.ModelError, 200, "absent.safetensors"),
        ({"model": b"not a model"}, collage.ModelError, None, "model_data"),
        ({"config": "absent.toml"}, collage.SettingError, 500, "absent.toml"),
        ({"arch": "resnet34"}, collage.SettingError, 505, "model"),
        ({"stragglers": ["slow"]}, collage.SettingError, 504, "stragglers"),
    ],
)
def test_bad_setting_is_named(settings: dict[str, Any], error: Any, code: int | None, message: str) -> None:
    with pytest.raises(error) as caught:
        collage.Engine(**settings)
    assert message in str(caught.value)
    assert code is None or caught.value.code == code
    assert not caught.value.can_retry


def test_settings_come_from_keywords_then_from_the_file(tmp_path: Path, digits: Digits) -> None:
    config = tmp_path / 'collage "tested" ä.toml'
    config.write_text('device = "cpu:1"\ntop = 2\nworkers = 2\npolicy = "none"\n')
    with collage.Engine(config=config, top=3, batch_wait=timedelta(milliseconds=1), seed=7, budget=0.5) as engine:
        assert len(engine.submit(digits.images[0]).result().top) == 3
        assert [w["role"] for w in engine.stats()["workers"]].count(0) == 2
    with pytest.raises(TypeError, match="seed="):
        collage.Engine(seed=object())  # type: ignore[arg-type]


def test_models_may_be_files_or_bytes(digits: Digits) -> None:
    base, tiles = (ROOT / "weights" / f"digits-{name}.safetensors" for name in ("base", "collage"))
    embedded: list[collage.Answer] = []
    for model, collage_model in ((None, None), (base, tiles), (base.read_bytes(), tiles.read_bytes())):
        with collage.Engine(model, collage=collage_model, device=["cpu:1"], policy="none") as engine:
            embedded.append(engine.submit(digits.images[0]).result())
    assert len({answer.top for answer in embedded}) == 1


def test_times_of_a_request_are_checked(engine: collage.Engine, digits: Digits) -> None:
    for bad in (-1, float("nan"), float("inf"), timedelta(days=2)):
        with pytest.raises(ValueError, match="deadline="):
            engine.submit(digits.images[0], deadline=bad)


def test_errors_keep_their_code_when_they_are_pickled() -> None:
    with pytest.raises(collage.SettingError) as caught:
        collage.Engine(grid="round")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), copy.code, copy.can_retry, str(copy)) == (
        type(caught.value), caught.value.code, caught.value.can_retry, str(caught.value),
    )  # fmt: skip
