"""Many messages and big ones, and a stop in the middle of it: what was answered with 250 has exactly one end."""
import functools
import json
import os
import signal
import threading

import smtp
from fakemx import FakeMx, Slow
from harness import BUILD, Process, equal, free_address, free_port, run_all, side_by_side, test, until
from mtas import SmtpSink, smtp_source, without_envelope_headers
from nameservers import Nsd
from relay import Ringpost, check_events, received, relay_and_mx, route

CONTENT = b"Subject: load\r\n\r\n" + (b"x" * 78 + b"\r\n") * 12
DOMAINS = 100


def hundred_domains(sink):
    records = ["mx A " + sink.address]
    for i in range(DOMAINS):
        # Twenty MX sets, so twenty sites, each of five domains.
        records += ["d%d MX 10 mx%d" % (i, i % 20)]
    return records + ["mx%d A %s" % (i, sink.address) for i in range(20)]


@test
def smtp_source_to_a_hundred_domains_at_smtp_sink(t):
    """One run of smtp-source for each domain, some at a time; names come from NSD."""
    sink = SmtpSink(t)
    nsd = Nsd(t, {"example": hundred_domains(sink)})
    relay = Ringpost(t, {"dns": {"servers": [nsd.where]}, "delivery": {"port": sink.port, "connections_per_site": 3}})
    each = 15

    def source(numbers):
        for number in numbers:
            smtp_source(relay, each, sessions=3, recipient="sink@d%d.example" % number, length=3000)

    side_by_side([functools.partial(source, range(first, DOMAINS, 4)) for first in range(4)])
    total = each * DOMAINS
    ends = relay.wait_outcomes(total, timeout_s=120)
    equal(relay.tally(), {"Reception": total, "Delivery": total})
    equal(sink.wait_messages(total), total)
    equal(len({end["queue"] for end in ends}), DOMAINS)
    equal(len({end["site"] for end in ends}), 20)
    metrics = relay.metrics()
    equal((metrics["ringpost_messages_received_total"], metrics["ringpost_delivered_total"], metrics["ringpost_bounced_total"]), (total, total, 0))
    check_events(relay.events(), finished=True)


@test
def busy_domains_are_delivered_by_all_shards(t):
    """What a shard received for a domain whose home is another is handed over only until it has a share of the connections."""
    total, domains = 20000, 20
    port = free_port("127.0.1.1")
    sink = Process(t, "sink", [os.path.join(BUILD, "bench", "sink"), "--listen", "127.0.1.0/24:%d" % port, "--json"])
    sink.wait_line("^ready")
    routes = [route("d%05d.test" % i, ("127.0.1.%d" % (i + 1), port)) for i in range(domains)]
    relay = Ringpost(t, {"routes": routes, "shards": 2}, release=True)
    command = ["--to", "%s:%d" % (relay.address, relay.port), "--messages", str(total), "--domains", str(domains), "--sessions", "40"]
    source = Process(t, "source", [os.path.join(BUILD, "bench", "source")] + command)
    equal(source.popen.wait(60), 0, source.log())
    until(lambda: relay.metrics()["ringpost_delivered_total"] == total, "all to be delivered", 60)
    handed_over = relay.metrics()["ringpost_handed_over_total"]
    print("# %d of %d handed over" % (handed_over, total))
    equal(handed_over < total / 10, True, "%d of %d handed over" % (handed_over, total))
    sink.signal(signal.SIGTERM)
    equal(sink.wait(), 0, sink.log())
    report = json.loads(sink.log().splitlines()[-1])
    equal(report["arrived"], total)
    at_once = report["connections"]["max_per_address"]
    equal(1 < at_once <= 10, True, "%d connections at once to one site" % at_once)


@test
def smtp_source_with_many_recipients(t):
    """-r: each message has several recipients of one domain; smtp-sink counts messages, the events recipients."""
    sink = SmtpSink(t)
    relay = Ringpost(t, {"routes": [route("*", (sink.address, sink.port))]})
    smtp_source(relay, 200, sessions=5, options=["-r", "5"])
    relay.wait_outcomes(1000)
    equal(relay.tally()["Delivery"], 1000)
    equal(sink.wait_messages(200) >= 200, True)


@test
def an_mx_that_refuses_now_and_then_gets_all_in_the_end(t):
    """Two of nine RCPT are put off, one of these with a hang-up; the other domain of each message has its own way."""
    sink = SmtpSink(t)
    flaky = {"n": 0}

    def sometimes(*_):
        flaky["n"] += 1
        return {0: "451 4.3.0 not now", 4: "421 4.3.2 bye"}.get(flaky["n"] % 9)

    address = free_address()
    mx = FakeMx(t, address, free_port(address), script={"RCPT": sometimes})
    relay = Ringpost(t, {"routes": [route("flaky.example", (mx.address, mx.port)), route("*", (sink.address, sink.port))]})
    for number in range(60):
        relay.send("a@b.example", ["r%d@flaky.example" % number, "r%d@solid.example" % number], CONTENT)
    relay.wait_outcomes(120, timeout_s=60)
    equal(relay.tally()["Delivery"], 120)
    equal(sorted(mx.recipients), sorted("r%d@flaky.example" % number for number in range(60)))
    equal(sink.wait_messages(60), 60)


def big_content(size):
    head = b"Subject: big\r\n\r\n"
    line = os.urandom(48).hex().encode() + b"\r\n"
    return head + line * ((size - len(head)) // len(line))


@test
def fifty_megabytes_in_bounded_memory(t):
    """With the release binary. Four at a time are 200 MB of content; the relay is told to keep 32 MiB of bodies."""
    relay, mx = relay_and_mx(t, {"limits": {"memory": "32MiB", "message_size": "50MiB"}, "spool": {"segment_size": "64MiB"}}, release=True)
    content = big_content(50_000_000)
    before = relay.memory_peak_bytes()
    side_by_side([functools.partial(relay.send, "a@b.example", "r%d@d.example" % i, content, patience_s=60) for i in range(4)])
    relay.wait_outcomes(4, timeout_s=120)
    equal(relay.tally()["Delivery"], 4)
    for message in mx.messages:
        equal(without_envelope_headers(message.content) == content, True, "content unaltered")
    grown = relay.memory_peak_bytes() - before
    print("# peak memory grew by %d MiB" % (grown >> 20))
    equal(grown < 100 * 1024 * 1024, True, "peak memory grew by %d MiB for four messages of 50 MB" % (grown >> 20))


@test
def a_lack_of_memory_is_no_attempt(t):
    """Twelve at a time of contents that are larger than all the memory there is: what cannot go now goes a little later, without a word to anybody."""
    willing = {"now": False}
    relay, mx = relay_and_mx(
        t,
        {"shards": 1, "limits": {"memory": "4MiB"}, "delivery": {"connections_per_site": 12}, "queue": {"retry_initial": "3s", "retry_max": "3s"}},
        release=True,
        script={"RCPT": lambda *_: None if willing["now"] else "451 4.2.1 not yet"},
    )
    content = big_content(5 << 20)
    for i in range(24):
        relay.send("a@b.example", "r%d@d.example" % i, content, patience_s=60)
    until(lambda: relay.tally().get("TransientFailure", 0) >= 24, "all to be put off")
    willing["now"] = True
    relay.wait_outcomes(24, timeout_s=120)
    equal(relay.tally()["Delivery"], 24)
    equal({event["response"]["content"] for event in relay.events("TransientFailure")}, {"not yet"})
    equal({without_envelope_headers(message.content) == content for message in mx.messages}, {True})
    equal(len(mx.messages), 24)


@test
def big_and_small_side_by_side(t):
    relay, mx = relay_and_mx(t, {"limits": {"memory": "16MiB"}})
    content = big_content(8_000_000)
    smalls = [functools.partial(relay.send, "small@b.example", "small%d@d.example" % i, CONTENT, patience_s=30) for i in range(100)]
    bigs = [functools.partial(relay.send, "big@b.example", "big%d@d.example" % i, content, patience_s=30) for i in range(3)]
    side_by_side(bigs + [lambda: [send() for send in smalls]])
    relay.wait_outcomes(103, timeout_s=60)
    equal(relay.tally()["Delivery"], 103)
    for message in mx.messages:
        equal(without_envelope_headers(message.content) == (content if message.sender.startswith("big") else CONTENT), True)


class Injector:
    """Sends without pause from several sessions until told to stop; knows which messages were answered with 250."""

    def __init__(self, relay, sessions=4, recipients=1):
        self.accepted = {}  # id -> recipients
        self.wrong = []  # what is no orderly refusal
        self.stop = False
        self._relay = relay
        self._recipients = recipients
        self._threads = [threading.Thread(target=self._session, args=(number,)) for number in range(sessions)]
        for thread in self._threads:
            thread.start()

    def _session(self, number):
        count = 0
        try:
            with self._relay.client() as client:
                client.hello()
                while not self.stop:
                    count += 1
                    recipients = ["r%d.%d.%d.%d@d%d.example" % (id(self), number, count, i, i) for i in range(self._recipients)]
                    reply = client.message("a@b.example", recipients, CONTENT)
                    if reply.code != 250:
                        raise AssertionError(repr(reply))
                    self.accepted[smtp.queue_id(reply)] = recipients
        except (AssertionError, OSError) as error:
            if not isinstance(error, (smtp.Closed, OSError)) and "421 " not in str(error):
                self.wrong.append(error)

    def join(self):
        self.stop = True
        for thread in self._threads:
            thread.join()
        equal(self.wrong, [])


@test
def sigterm_under_load_loses_nothing(t):
    """Sessions are told 421, the exit code is 0, and after the next start every accepted message has one end, and no message came twice."""
    address = free_address()
    mx = FakeMx(t, address, free_port(address), script={"MAIL": lambda *_: Slow(0.003)})
    relay = Ringpost(t, {"routes": [route("*", (mx.address, mx.port))], "delivery": {"connections_per_site": 3}})
    accepted = {}
    for _ in range(5):
        injector = Injector(relay, recipients=2)
        until(lambda injector=injector: len(injector.accepted) >= 60, "load")
        relay.stop()
        injector.join()
        accepted.update(injector.accepted)
        relay.start()
    total = sum(len(recipients) for recipients in accepted.values())
    until(lambda: len(set(mx.recipients)) >= total, lambda: "%d recipients at the MX, there are %d" % (total, len(set(mx.recipients))))
    wanted = {recipient for recipients in accepted.values() for recipient in recipients}
    equal(wanted - set(mx.recipients), set())
    equal(len(mx.recipients), len(set(mx.recipients)), "each once")
    relay.wait_outcomes(len(set(received(relay.events()))))
    check_events(relay.events(), finished=True)


@test
def sigterm_stops_taking_mail_and_ends_in_time(t):
    """A session in the middle of a message may finish it; one that only sits there is told to go."""
    relay, mx = relay_and_mx(t)
    idle = relay.client()
    idle.hello()
    busy = relay.client()
    busy.hello()
    busy.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: half\r\n")
    for code in (250, 250, 354):
        busy.expect(code)
    relay.process.signal(15)
    idle.expect(421, "4.3.2")
    equal(idle.closed(), b"")
    busy.send(b"\r\nother half\r\n.\r\n")
    reply = busy.reply()
    equal(reply.code in (250, 421, 451), True, repr(reply))
    busy.closed()
    process = relay.process
    relay.stop()
    equal(process.popen.returncode, 0)
    if reply.code == 250 and not mx.messages:
        relay.start()
        mx.wait_recipients(1)
    equal(len(mx.messages), 1 if reply.code == 250 else 0)


@test
def a_restart_keeps_the_queue_with_its_ages_and_attempts(t):
    address = free_address()
    port = free_port(address)
    relay = Ringpost(t, {"routes": [route("*", (address, port))], "queue": {"retry_initial": "500ms", "retry_max": "1s"}})
    big = big_content(3_000_000)
    sent = {}
    for i in range(20):
        content = big if i % 10 == 0 else CONTENT
        sent["r%d@d.example" % i] = content
        relay.send("a@b.example", ["r%d@d.example" % i], content)
    until(lambda: len({event["recipient"] for event in relay.events("TransientFailure")}) == 20, "a first try of each")
    for _ in range(2):
        relay.stop()
        relay.start()
    mx = FakeMx(t, address, port)
    ends = relay.wait_outcomes(20)
    equal({end["type"] for end in ends}, {"Delivery"})
    created = {event["id"]: event["timestamp"] for event in relay.events("Reception")}
    for end in ends:
        equal(end["num_attempts"] >= 2, True, "attempts are remembered")
        equal(abs(end["created"] - created[end["id"]]) < 5, True, "the age is remembered")
    for message in mx.messages:
        equal(without_envelope_headers(message.content) == sent[message.recipients[0]], True, "content unaltered")
    check_events(relay.events(), finished=True)


@test
def fewer_shards_leave_no_mail_behind(t):
    """Either the spools of the missing shards are adopted, or the start is refused with a clear line; the one thing that must not be is silence."""
    address = free_address()
    port = free_port(address)
    relay = Ringpost(t, {"shards": 4, "routes": [route("*", (address, port))]})
    for i in range(40):
        relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
    relay.stop()
    with open(relay.config_path) as file:
        text = file.read()
    t.write(relay.config_path, text.replace("shards: 4", "shards: 1"))
    mx = FakeMx(t, address, port)
    relay.start(wait=False)
    process = relay.process
    until(lambda: "ready" in process.log() or not process.running(), "a start or a refusal")
    if not process.running():
        relay.process = None
        equal((process.wait(), "4 shards" in process.log(), relay.config["spool"]["path"] in process.log()), (1, True, True), process.log())
        t.write(relay.config_path, text)
        relay.start()
    mx.wait_recipients(40)
    relay.wait_outcomes(40)
    equal(sorted(mx.recipients), sorted("r%d@d.example" % i for i in range(40)))


@test
def every_durability_delivers(t):
    for durability in ("sync", "lazy", "memory"):
        relay, mx = relay_and_mx(t, {"spool": {"durability": durability}})
        for i in range(30):
            relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
        relay.wait_outcomes(30)
        equal(len(mx.messages), 30)
        relay.stop()


@test
def memory_mode_stores_what_waits_at_shutdown(t):
    address = free_address()
    port = free_port(address)
    relay = Ringpost(t, {"spool": {"durability": "memory"}, "routes": [route("*", (address, port))]})
    for i in range(30):
        relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
    relay.stop()
    mx = FakeMx(t, address, port)
    relay.start()
    mx.wait_recipients(30)
    equal(len(set(mx.recipients)), 30)


run_all(3)
