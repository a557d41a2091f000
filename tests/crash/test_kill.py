"""kill -9 under load, again and again: every message answered with 250 arrives, and what arrives twice had been taken by the peer before. Of each the events tell.

The MX is a fake one, so that each recipient's arrivals are known with their times; the injector notes which message got its 250, and sends again what
was cut off before its reply, as clients do. The relay gives each message it takes an id, which the Received header tells: so of what arrives twice it is
known whether the relay sent one message twice or had taken it twice. RINGPOST_KILL_ROUNDS says how many kills there are in all (`make kills`); the last
lines count.
"""
import collections
import os
import re
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


# kills under load, as the tests have them by themselves, and as many times that as the environment wants in all
ROUNDS = 16
SCALE = max(1.0, int(os.environ.get("RINGPOST_KILL_ROUNDS", ROUNDS)) / ROUNDS)

totals = collections.Counter()
totals_lock = threading.Lock()


class Injector:
    """Sessions that send until the relay dies under them; first `cut`, what was cut off before: [(recipients, content)]. What is cut off now is in
    `cut` afterwards."""

    def __init__(self, relay, label, cut=(), sessions=4, recipients=lambda count: 1, content=lambda count: SMALL):
        self.accepted = {}  # recipient -> content
        self.cut = []
        self._relay, self._label, self._recipients, self._content = relay, label, recipients, content
        self._threads = [threading.Thread(target=self._session, args=(number, list(cut)[number::sessions])) for number in range(sessions)]
        for thread in self._threads:
            thread.start()

    def _messages(self, number):
        for count in range(1_000_000):
            yield ["r%s.%d.%d.%d@d%d.example" % (self._label, number, count, i, i % 7) for i in range(self._recipients(count))], self._content(count)

    def _session(self, number, again):
        fresh = self._messages(number)
        recipients = content = None
        try:
            with self._relay.client() as client:
                client.hello()
                while True:
                    recipients, content = again[0] if again else next(fresh)
                    if client.message("a@b.example", recipients, content).code != 250:
                        return
                    del again[:1]
                    self.accepted.update(dict.fromkeys(recipients, content))
                    recipients = None
        except (smtp.Closed, OSError):
            if recipients is not None and not again:
                again = [(recipients, content)]
            self.cut += again

    def join(self):
        for thread in self._threads:
            thread.join()


# one of a recipient: the id in the Received header, connection, time
Arrival = collections.namedtuple("Arrival", "id connection at content")  # content: its hash


class Arrivals:
    """What the MX took, by recipient; it keeps no contents, which would be gigabytes after hundreds of rounds."""

    def __init__(self, mx):
        self.of = {}
        self._mx, self._read = mx, 0

    def read(self):
        """What came since the last time. All of it has had its answer."""
        for message in self._mx.contents[self._read :]:
            if message.answer == "":
                break
            self._read += 1
            if message.answer == "250":
                number = re.search(rb"\bid ([0-9a-f]{16})\b", message.content).group(1)
                arrival = Arrival(number, message.connection, message.at, hash(without_envelope_headers(message.content)))
                for recipient in message.recipients:
                    self.of.setdefault(recipient, []).append(arrival)
            message.content = b""
        return self.of


def killed_again_and_again(
    t, rounds, enough, config=None, script=None, recipients=lambda count: 1, content=lambda count: SMALL, capabilities=CAPABILITIES
):
    rounds = round(rounds * SCALE)
    address = free_address()
    mx = FakeMx(t, address, free_port(address), script=script, capabilities=capabilities)
    relay = Ringpost(t, {"routes": [route("*", (mx.address, mx.port))], **(config or {})}, check=False)
    accepted, kills, arrivals = {}, [], Arrivals(mx)
    sent_again, cut = collections.Counter(), []
    for number in range(rounds):
        injector = Injector(relay, str(number), cut, recipients=recipients, content=content)
        sent_again.update(recipient for message in cut for recipient in message[0])
        until(lambda injector=injector: len(injector.accepted) >= enough, "%d accepted recipients in round %d" % (enough, number))
        relay.kill9()
        killed_at = time.time()
        injector.join()
        cut = injector.cut
        until(lambda: mx.open_sessions == 0, "the MX to see the end of its connections")
        kills.append((mx.connections, killed_at))
        accepted.update(injector.accepted)
        arrivals.read()
        relay.start()
    until(
        lambda: not set(accepted) - set(arrivals.read()),
        lambda: "%d accepted recipients to arrive; missing %s; %s"
        % (len(accepted), sorted(set(accepted) - set(arrivals.read()))[:3], relay.log()[-2000:]),
        timeout_s=60 * SCALE,
    )
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "the queue to be empty", timeout_s=60 * SCALE)
    relay.stop()
    arrivals.read()
    _explain(arrivals.of, accepted, sent_again, kills)
    for event in relay.events():
        wrong = check_event(event)
        if wrong:
            raise AssertionError("event breaks the contract: %s: %s" % (wrong, event))
    _all_is_told(relay, arrivals.of, accepted)
    relay.start()  # nothing of it may come back after an orderly stop
    before = len(mx.contents)
    relay.send("a@b.example", "last@d.example", SMALL)
    mx.wait_recipients(len(mx.recipients) if "last@d.example" in mx.recipients else len(mx.recipients) + 1)
    relay.stop()
    equal([m.recipients for m in mx.contents[before:]], [["last@d.example"]])


def _explain(arrivals, accepted, sent_again, kills):
    """Each accepted content is unaltered. A message that the relay took once arrives at most once in each life of it, again only if taken just before a
    kill; it took as many as were sent."""
    unsynced, resent, latest = collections.Counter(), 0, 0.0
    for recipient, taken in arrivals.items():
        if recipient in accepted and any(arrival.content != hash(accepted[recipient]) for arrival in taken):
            raise AssertionError("content of %s was altered" % recipient)
        messages = {}
        for arrival in taken:
            messages.setdefault(arrival.id, []).append(arrival)
        if len(messages) > 1 + sent_again[recipient]:
            raise AssertionError("%s arrived as %d messages and was sent %d times" % (recipient, len(messages), 1 + sent_again[recipient]))
        resent += len(messages) - 1
        for same in messages.values():
            for first, second in zip(same, same[1:]):
                killed_at = next((at for last_connection, at in kills if first.connection <= last_connection < second.connection), None)
                if killed_at is None:
                    raise AssertionError("%s was delivered twice without a kill between" % recipient)
                if killed_at - first.at > LATE_S:
                    raise AssertionError(
                        "%s was delivered again though it had been taken %.1f s before the kill" % (recipient, killed_at - first.at)
                    )
                unsynced[killed_at] += 1
                latest = max(latest, killed_at - first.at)
    _count(len(accepted), len(kills), unsynced, latest, resent, sum(sent_again.values()))


def _count(accepted, kills, unsynced, latest, resent, sent_again):
    most = max(unsynced.values(), default=0)
    print(
        "# %d recipients accepted, %d kills, none lost; delivered again: %d whose outcome was not synced (at most %d at one kill, taken by the MX at most "
        "%.3f s before it), %d of %d that were cut off and sent again" % (accepted, kills, sum(unsynced.values()), most, latest, resent, sent_again),
        flush=True,
    )
    with totals_lock:
        totals.update(accepted=accepted, kills=kills, unsynced=sum(unsynced.values()), resent=resent, sent_again=sent_again)
        totals["most"] = max(totals["most"], most)
        totals["latest_ms"] = max(totals["latest_ms"], latest * 1000)


def _all_is_told(relay, taken, accepted):
    """Each recipient has a Reception. Over all lives of the relay each recipient has an event of its end: one, or one more for each time it was delivered again."""
    ends = {}
    for event in relay.finals():
        ends[event["recipient"]] = ends.get(event["recipient"], 0) + 1
    begun = {recipient for _, recipient in received(relay.events("Reception"))}
    untold = [recipient for recipient in accepted if recipient not in begun]
    equal(untold, [], "%d of %d recipients have no Reception" % (len(untold), len(accepted)))
    untold = [recipient for recipient in accepted if recipient not in ends]
    equal(untold, [], "%d of %d recipients have no event of their end" % (len(untold), len(accepted)))
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


try:
    run_all(2)
finally:
    if totals["kills"] > 0:
        print(
            "# in all: %d kills, %d recipients accepted, 0 lost; delivered again: %d with outcomes not synced (%d at one kill at most, taken %.0f ms before it "
            "at most), %d of %d cut off and sent again"
            % tuple(totals[key] for key in ("kills", "accepted", "unsynced", "most", "latest_ms", "resent", "sent_again")),
            flush=True,
        )
