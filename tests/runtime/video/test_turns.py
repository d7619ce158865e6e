"""Turns of threads: in the order in which they asked."""

import threading
import time

from pumpseg.video.turns import Turns


def test_turns_are_given_in_the_order_of_asking():
    turns, order, asked = Turns(1), [], []
    turns.take()

    def ask(name):
        asked.append(name)
        turns.take()
        order.append(name)
        turns.give_back()

    threads = []
    for name in range(5):
        threads.append(threading.Thread(target=ask, args=(name,)))
        threads[-1].start()
        while len(asked) <= name:
            time.sleep(0.001)
        time.sleep(0.01)
    turns.give_back()
    for thread in threads:
        thread.join(timeout=10)
    assert order == [0, 1, 2, 3, 4]


def test_one_that_asks_all_the_time_gets_no_more_than_its_share():
    """A semaphore would let the greedy thread in again and again."""
    turns, counts, stop = Turns(1), [0, 0, 0], threading.Event()

    def work(number):
        while not stop.is_set():
            turns.take()
            counts[number] += 1
            time.sleep(0.0005 * (number + 1))
            turns.give_back()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    stop.set()
    for thread in threads:
        thread.join(timeout=10)
    assert min(counts) > 10
    assert max(counts) - min(counts) <= 1


def test_as_many_at_a_time_as_there_are_turns():
    turns, lock, running, most = Turns(2), threading.Lock(), [0], [0]

    def work():
        for _ in range(20):
            turns.take()
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.001)
            with lock:
                running[0] -= 1
            turns.give_back()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert most == [2]
