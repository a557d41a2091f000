"""kill -9 under load, again and again: every message answered with 250 arrives, and what arrives twice had been taken by the peer before. Of each the events tell.

The MX is a fake one, so that each recipient's arrivals are known with their times; the injector notes which message got its 250 and when.
"""
import threading
import time

import smtp
from fakemx import CAPABILITIES, FakeMx, Slow
from harness import equal, free_address, free_port, run_all, test, until
from mtas import without_envelope_headers
from relay import Ringpost, check_event, received, route

SMALL = b"Subject: small\r\n\r\n" + (b"s" * 78 + b"\r\n") * 20
BIG = b"Subject: big\r\n\r\n" + (b"b" * 98 + b"\r\n") * 25000
LATE_S = 1.0  # an outcome is on disk long before that: it waits 5 ms for company


class Injector:
    """Sessions that send until the relay dies under them."""

    def __init__(self, relay, label, sessions=4, recipients=lambda count: 1, content=lambda count: SMALL):
        self.accepted = {}  # recipient -> content
        self._relay, self._label, self._recipients, self._content = relay, label, recipients, content
        self._threads = [threading.Thread(target=self._session, args=(number,)) for number in range(sessions)]
        for thread in self._threads:
            thread.start()

    def _session(self, number):
        try:
            with self._relay.client() as client:
                client.hello()
                for count in range(1_000_000):
                    recipients = ["r%s.%d.%d.%d@d%d.example" % (self._label, number, count, i, i % 7) for i in range(self._recipients(count))]
                    content = self._content(count)
                    if client.message("a@b.example", recipients, content).code != 250:
                        return
                    self.accepted.update(dict.fromkeys(recipients, content))
        except (smtp.Closed, OSError):
            pass

    def join(self):
        for thread in self._threads:
            thread.join()


def arrivals(mx):
    """recipient -> [(connection, time)] at which the MX took it"""
    taken = {}
    for message in list(mx.contents):
        if message.answer == "250":
            for recipient in message.recipients:
                taken.setdefault(recipient, []).append((message.connection, message.at))
    return taken


def killed_again_and_again(
    t, rounds, enough, config=None, script=None, recipients=lambda count: 1, content=lambda count: SMALL, capabilities=CAPABILITIES
):
    address = free_address()
    mx = FakeMx(t, address, free_port(address), script=script, capabilities=capabilities)
    relay = Ringpost(t, {"routes": [route("*", (mx.address, mx.port))], **(config or {})}, check=False)
    accepted, kills = {}, []
    for number in range(rounds):
        injector = Injector(relay, str(number), recipients=recipients, content=content)
        until(lambda injector=injector: len(injector.accepted) >= enough, "%d accepted recipients in round %d" % (enough, number))
        relay.kill9()
        killed_at = time.time()
        injector.join()
        until(lambda: mx.open_sessions == 0, "the MX to see the end of its connections")
        kills.append((mx.connections, killed_at))
        accepted.update(injector.accepted)
        relay.start()
    until(
        lambda: not set(accepted) - set(arrivals(mx)),
        lambda: "%d accepted recipients to arrive; missing %s; %s"
        % (len(accepted), sorted(set(accepted) - set(arrivals(mx)))[:3], relay.log()[-2000:]),
        timeout_s=60,
    )
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "the queue to be empty", timeout_s=60)
    relay.stop()
    _explain(mx, accepted, kills)
    for event in relay.events():
        wrong = check_event(event)
        if wrong:
            raise AssertionError("event breaks the contract: %s: %s" % (wrong, event))
    _all_is_told(relay, mx, accepted)
    relay.start()  # nothing of it may come back after an orderly stop
    before = len(mx.contents)
    relay.send("a@b.example", "last@d.example", SMALL)
    mx.wait_recipients(len(mx.recipients) if "last@d.example" in mx.recipients else len(mx.recipients) + 1)
    relay.stop()
    equal([m.recipients for m in mx.contents[before:]], [["last@d.example"]])


def _explain(mx, accepted, kills):
    """Each accepted content is unaltered; a recipient arrives at most once in each life of the relay, again only if taken just before a kill."""
    for message in mx.contents:
        for recipient in message.recipients:
            if recipient in accepted and message.answer == "250" and without_envelope_headers(message.content) != accepted[recipient]:
                raise AssertionError("content of %s was altered" % recipient)
    duplicates, latest = 0, 0.0
    for recipient, taken in arrivals(mx).items():
        for (first_connection, first), (second_connection, _) in zip(taken, taken[1:]):
            duplicates += 1
            killed_at = next((at for last_connection, at in kills if first_connection <= last_connection < second_connection), None)
            if killed_at is None:
                raise AssertionError("%s was delivered twice without a kill between" % recipient)
            latest = max(latest, killed_at - first)
            if killed_at - first > LATE_S:
                raise AssertionError("%s was delivered again though it had been taken %.1f s before the kill" % (recipient, killed_at - first))
    print(
        "# %d recipients accepted, %d kills, %d delivered again, all taken by the MX at most %.3f s before the kill"
        % (len(accepted), len(kills), duplicates, latest)
    )


def _all_is_told(relay, mx, accepted):
    """Each recipient has a Reception. Over all lives of the relay each recipient has an event of its end: one, or one more for each time it was delivered again."""
    ends = {}
    for event in relay.finals():
        ends[event["recipient"]] = ends.get(event["recipient"], 0) + 1
    begun = {recipient for _, recipient in received(relay.events("Reception"))}
    untold = [recipient for recipient in accepted if recipient not in begun]
    equal(untold, [], "%d of %d recipients have no Reception" % (len(untold), len(accepted)))
    untold = [recipient for recipient in accepted if recipient not in ends]
    equal(untold, [], "%d of %d recipients have no event of their end" % (len(untold), len(accepted)))
    taken = arrivals(mx)
    for recipient, count in ends.items():
        equal(count <= len(taken.get(recipient, [])), True, "%s ended %d times and arrived %d times" % (recipient, count, len(taken.get(recipient, []))))


@test
def kill_under_load(t):
    killed_again_and_again(t, 4, 150)


@test
def kill_with_a_slow_mx_and_a_growing_queue(t):
    killed_again_and_again(t, 3, 200, {"delivery": {"connections_per_site": 2}}, script={"MAIL": lambda *_: Slow(0.01)})


@test
def kill_with_deferrals_and_many_recipients(t):
    """Partly delivered, partly put off: what had its 250 is not sent again after the restart, but for the last moment."""
    count = {"n": 0}

    def rcpt(*_):
        count["n"] += 1
        return "450 4.2.1 later" if count["n"] % 5 == 0 else None

    killed_again_and_again(
        t, 3, 300, {"queue": {"retry_initial": "500ms", "retry_max": "1s"}}, script={"RCPT": rcpt}, recipients=lambda count: 1 + count % 12
    )


@test
def kill_with_big_messages(t):
    """Messages in several parts on disk, some of them half written at the kill."""
    killed_again_and_again(
        t, 3, 12, {"limits": {"memory": "16MiB"}}, content=lambda count: BIG if count % 2 else SMALL, capabilities=CAPABILITIES + ("CHUNKING",)
    )


@test
def kill_with_recycled_segments(t):
    """Small segments: some were used and used again before the kill."""
    killed_again_and_again(
        t, 3, 60, {"shards": 1, "spool": {"segment_size": "8MiB"}}, content=lambda count: SMALL if count % 4 else SMALL + (b"m" * 98 + b"\r\n") * 9000
    )


@test
def kill_while_starting(t):
    """Killed at once after the start, before and after it is ready: replay may be cut short, and nothing gets lost by that."""
    address = free_address()
    port = free_port(address)
    relay = Ringpost(t, {"routes": [route("*", (address, port))]}, check=False)
    sent = {"r%d@d.example" % i for i in range(60)}
    for recipient in sorted(sent):
        relay.send("a@b.example", recipient, SMALL)
    relay.kill9()
    for number in range(6):
        relay.start(wait=number % 2 == 1)
        relay.kill9()
    mx = FakeMx(t, address, port)
    relay.start()
    mx.wait_recipients(60)
    equal(set(mx.recipients), sent)
    equal(len(mx.recipients), 60, "each once: the MX had none of them before")


run_all(2)
