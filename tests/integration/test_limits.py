"""What the relay allows itself towards one site: connections, messages on each, idle time, retries, age."""
import itertools
import time

from fakemx import Cut, Deaf, FakeMx, Gauge, Slow
from harness import equal, free_address, free_port, run_all, test, until
from mtas import without_envelope_headers
from relay import Ringpost, check_events, relay_and_mx, route

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"


def send_many(relay, count, domain="d.example", per_session=25):
    for start in range(0, count, per_session):
        with relay.client() as client:
            client.hello()
            for i in range(start, min(count, start + per_session)):
                equal(client.message("a@b.example", ["r%d@%s" % (i, domain)], CONTENT).code, 250)
            client.quit()


@test
def connections_per_site_are_never_exceeded(t):
    for shards in (1, 2):
        relay, mx = relay_and_mx(
            t, {"shards": shards, "delivery": {"connections_per_site": 3, "messages_per_connection": 7}}, script={"MAIL": lambda *_: Slow(0.005)}
        )
        send_many(relay, 200)
        relay.wait_outcomes(200)
        equal(len(set(mx.recipients)), 200)
        equal(mx.gauge.most <= 3, True, "%d connections at once with %d shards" % (mx.gauge.most, shards))
        equal(mx.gauge.most >= 2, True, "%d connections at once with %d shards: nothing to share" % (mx.gauge.most, shards))


@test
def the_limit_holds_over_all_hosts_of_a_site(t):
    addresses = [free_address() for _ in range(4)]
    port = free_port(*addresses)
    gauge = Gauge()
    servers = [FakeMx(t, address, port, gauge=gauge, script={"MAIL": lambda *_: Slow(0.005)}) for address in addresses]
    relay = Ringpost(
        t,
        {"routes": [route("*", *((address, port) for address in addresses))], "delivery": {"connections_per_site": 2, "messages_per_connection": 10}},
    )
    send_many(relay, 120)
    relay.wait_outcomes(120)
    equal(sum(len(mx.messages) for mx in servers), 120)
    equal(gauge.most <= 2, True, "%d connections at once" % gauge.most)


@test
def the_limit_holds_while_connections_fail(t):
    count = itertools.count()
    relay, mx = relay_and_mx(
        t,
        {"delivery": {"connections_per_site": 2, "messages_per_connection": 5}},
        script={
            "MAIL": lambda *_: "421 4.3.2 go away" if next(count) % 9 == 8 else None,
            "GREETING": lambda session, _: "421 4.3.2 busy" if session.number % 5 == 4 else None,
        },
    )
    send_many(relay, 100)
    relay.wait_outcomes(100, timeout_s=60)
    equal(len(set(mx.recipients)), 100)
    equal(mx.gauge.most <= 2, True, "%d connections at once" % mx.gauge.most)


@test
def the_limit_holds_while_the_mx_cuts_off_and_the_relay_restarts(t):
    count = itertools.count()
    relay, mx = relay_and_mx(
        t,
        {"delivery": {"connections_per_site": 4, "messages_per_connection": 9}},
        script={"MAIL": lambda *_: Cut() if next(count) % 7 == 6 else Slow(0.003)},
    )
    for _ in range(3):
        send_many(relay, 150)
        relay.stop()
        relay.start()
    relay.wait_outcomes(450, timeout_s=60)
    equal(len(mx.recipients), 450)
    equal(mx.gauge.most <= 4, True, "%d connections at once" % mx.gauge.most)


@test
def the_limit_holds_while_the_first_of_two_hosts_refuses(t):
    """With one connection at a time: the one that is refused has to be gone before the next host is tried, and mail goes on there at once."""
    addresses = [free_address() for _ in range(2)]
    port = free_port(*addresses)
    gauge = Gauge()
    first = FakeMx(t, addresses[0], port, gauge=gauge, script={"GREETING": lambda *_: "554 5.7.1 not you"})  # and waits for QUIT
    second = FakeMx(t, addresses[1], port, gauge=gauge)
    relay = Ringpost(
        t,
        {
            "routes": [route("*", *((address, port) for address in addresses))],
            "delivery": {"connections_per_site": 1, "messages_per_connection": 5},
            "queue": {"retry_initial": "5m", "retry_max": "5m"},
        },
    )
    send_many(relay, 40)
    relay.wait_outcomes(40, timeout_s=20)
    equal(relay.tally(), {"Reception": 40, "Delivery": 40})
    equal((len(first.messages), len(second.messages)), (0, 40))
    equal(gauge.most, 1)
    equal(first.connections <= 2, True, "%d connections to a host that refuses" % first.connections)


@test
def the_limit_holds_when_the_mx_does_not_read(t):
    """What was given up in the middle of a message ends for the MX at once, not when it has read what the kernel still has for it."""
    relay, mx = relay_and_mx(
        t,
        {"delivery": {"connections_per_site": 1, "timeouts": {"data": "500ms", "final": "500ms"}}, "queue": {"retry_initial": "300ms"}},
        script={"DATA": [Deaf("354 go on\r\n", 6)]},
        lawful=False,
    )
    relay.send("a@b.example", "c@d.example", b"Subject: long\r\n\r\n" + (b"x" * 98 + b"\r\n") * 15000)
    relay.wait_outcomes(1)
    equal(mx.gauge.most, 1)


@test
def messages_per_connection_are_respected(t):
    begun = {}

    def mail(session, _):
        begun[session.number] = begun.get(session.number, 0) + 1

    relay, _ = relay_and_mx(t, {"shards": 1, "delivery": {"connections_per_site": 1, "messages_per_connection": 10}}, script={"MAIL": mail})
    send_many(relay, 95)
    relay.wait_outcomes(95)
    equal(max(begun.values()) <= 10, True, "messages per connection: %s" % begun)
    equal(len(begun) <= 20, True, "%d connections for 95 messages" % len(begun))


@test
def a_connection_ends_with_quit(t):
    relay, mx = relay_and_mx(t, {"delivery": {"idle": "300ms"}})
    send_many(relay, 3)
    relay.wait_outcomes(3)
    until(lambda: mx.gauge.now == 0, "idle connections to be closed")
    equal(mx.verbs().count("QUIT"), mx.connections)


@test
def an_idle_connection_is_used_again(t):
    relay, mx = relay_and_mx(t, {"shards": 1, "delivery": {"idle": "30s"}})
    for i in range(5):
        send_many(relay, 1)
        relay.wait_outcomes(i + 1)
    equal(mx.connections, 1)


@test
def an_idle_connection_closed_by_the_mx_costs_no_attempt(t):
    relay, mx = relay_and_mx(t, {"shards": 1, "delivery": {"idle": "30s"}})
    send_many(relay, 1)
    relay.wait_outcomes(1)
    mx.hang_up()
    send_many(relay, 1)
    relay.wait_outcomes(2)
    equal((mx.connections, relay.tally().get("TransientFailure")), (2, None))


@test
def retries_come_at_growing_distances(t):
    times = []
    relay, _ = relay_and_mx(
        t,
        {"queue": {"retry_initial": "400ms", "retry_factor": 2, "retry_max": "10s"}},
        script={"RCPT": lambda *_: (times.append(time.monotonic()), "450 4.2.1 later" if len(times) < 4 else None)[1]},
    )
    relay.send("a@b.example", "c@d.example", CONTENT)
    relay.wait_outcomes(1)
    distances = [second - first for first, second in zip(times, times[1:])]
    equal(len(distances), 3)
    for distance, least in zip(distances, (0.4, 0.8, 1.6)):
        equal(distance >= least * 0.7, True, "distances %s" % distances)  # a quarter less by chance is fair, so that retries spread
    equal(distances[2] > distances[0], True, "distances %s" % distances)
    equal([event["num_attempts"] for event in relay.events() if event["type"] != "Reception"], [1, 2, 3, 4])


@test
def what_is_too_old_expires(t):
    relay, mx = relay_and_mx(
        t, {"queue": {"retry_initial": "200ms", "retry_max": "300ms", "max_age": "1500ms"}}, script={"RCPT": lambda *_: "450 4.2.1 never"}
    )
    relay.send("a@b.example", ["c@d.example", "e@d.example"], CONTENT)
    ends = relay.wait_outcomes(2)
    equal({end["type"] for end in ends}, {"Expiration"})
    for end in ends:
        equal(1.4 <= end["timestamp"] - end["created"] < 15, True, "age %s" % (end["timestamp"] - end["created"]))
        equal(end["verdict"], "soft")
    tried = mx.verbs().count("MAIL")
    equal(tried >= 2, True, "attempts %d" % tried)
    check_events(relay.events(), finished=True)


@test
def a_host_that_takes_one_connection_only_gets_all_mail_over_it(t):
    """With the default retry times: a block of the host would be seen as half a minute and more without mail."""
    gauge = Gauge()
    relay, mx = relay_and_mx(
        t,
        {"queue": {"retry_initial": "5m", "retry_max": "4h"}, "delivery": {"messages_per_connection": 20}, "shards": 1},
        script={"GREETING": lambda *_: "421 4.7.0 too many connections" if gauge.now > 1 else None, "MAIL": lambda *_: Slow(0.01)},
        gauge=gauge,
    )
    send_many(relay, 100)
    relay.wait_outcomes(100, timeout_s=25)
    equal(relay.tally().get("Delivery"), 100)
    equal(mx.connections <= 40, True, "%d connections" % mx.connections)


@test
def the_last_try_comes_at_the_age_limit(t):
    """The next retry would be long after it."""
    relay, mx = relay_and_mx(t, {"queue": {"retry_initial": "10m", "retry_max": "10m", "max_age": "2s"}}, script={"RCPT": ["450 4.2.1 later"]})
    relay.send("a@b.example", "c@d.example", CONTENT)
    end = relay.wait_outcomes(1)[0]
    equal(end["type"], "Delivery")
    equal(1.9 <= end["timestamp"] - end["created"] < 10, True, "age %s" % (end["timestamp"] - end["created"]))
    equal(mx.verbs().count("RCPT"), 2)


@test
def a_source_address_that_is_not_ours_is_said_in_events(t):
    relay, mx = relay_and_mx(t, {"delivery": {"source": ["192.0.2.9"]}, "queue": {"max_age": "2s"}})
    relay.send("a@b.example", "c@d.example", CONTENT)
    equal(relay.wait_outcomes(1)[0]["type"], "Expiration")
    first = relay.events("TransientFailure")[0]
    equal((first["response"]["command"], first["source_address"], first["peer_address"]["addr"]), ("connect", "192.0.2.9", mx.address))
    equal(first["response"]["content"], "connect: local address not available")
    equal(mx.connections, 0)
    equal(relay.metrics()["ringpost_connections_failed_total"] <= 60, True, "tries in 2 s")


@test
def age_counts_while_waiting_for_a_connection_too(t):
    """The MX takes one message at a time and very slowly: what waits in the ready queue gets old there."""
    relay, _ = relay_and_mx(
        t, {"queue": {"max_age": "1500ms"}, "delivery": {"connections_per_site": 1}, "shards": 1}, script={"MAIL": lambda *_: Slow(2)}, lawful=False
    )
    send_many(relay, 12)
    ends = relay.wait_outcomes(12)
    equal(sum(end["type"] == "Expiration" for end in ends) >= 8, True, str(relay.tally()))


@test
def a_dead_site_is_left_alone_between_tries(t):
    """Nobody listens; hundreds of messages must not mean hundreds of connects."""
    address = free_address()
    relay = Ringpost(t, {"routes": [route("*", (address, free_port(address)))], "queue": {"retry_initial": "1s", "retry_max": "1s", "max_age": "3s"}})
    send_many(relay, 150)
    relay.wait_outcomes(150)
    equal(relay.tally().get("Expiration"), 150)
    tried = relay.metrics()["ringpost_connections_failed_total"]
    equal(tried <= 60, True, "%d connects for 150 messages in 3 s" % tried)


@test
def a_dead_site_is_tried_by_one_shard_only(t):
    """Mail for it keeps coming in on all shards, also after each of them had its share of the connections."""
    address = free_address()
    port = free_port(address)
    mx = FakeMx(t, address, port)
    relay = Ringpost(
        t, {"shards": 4, "routes": [route("*", (address, port))], "queue": {"retry_initial": "1s", "retry_factor": 1, "retry_max": "1s"}}
    )
    send_many(relay, 200)
    relay.wait_outcomes(200)
    mx.close()
    until(lambda: relay.metrics()["ringpost_connections_open"] == 0, "the connections to be gone")
    before = relay.metrics()["ringpost_connections_failed_total"]
    started = time.monotonic()
    while time.monotonic() - started < 6:
        send_many(relay, 100)
    tried = relay.metrics()["ringpost_connections_failed_total"] - before
    print("# %d connects" % tried)
    equal(tried <= 12, True, "%d connects in 6 s, with a pause of 1 s after each" % tried)


@test
def a_hundred_recipients_in_a_hundred_domains(t):
    """Stored once, delivered to all, each domain its own site."""
    address = free_address()
    port = free_port(address)
    mx = FakeMx(t, address, port)
    relay = Ringpost(t, {"routes": [route("d%d.example" % i, (address, port)) for i in range(100)]})
    content = b"Subject: to many\r\n\r\n" + (b"y" * 98 + b"\r\n") * 2000
    relay.send("a@b.example", ["r@d%d.example" % i for i in range(100)], content)
    relay.wait_outcomes(100)
    equal(sorted(mx.recipients), sorted("r@d%d.example" % i for i in range(100)))
    equal({without_envelope_headers(m.content) == content for m in mx.messages}, {True})
    equal(len(relay.events("Reception", number=None)), 1)
    metrics = relay.metrics()
    equal(
        (metrics["ringpost_messages_received_total"], metrics["ringpost_recipients_received_total"], metrics["ringpost_delivered_total"]),
        (1, 100, 100),
    )
    equal(
        metrics["ringpost_spool_bytes_total"] < 3 * len(content),
        True,
        "%d bytes to the spool for a message of %d" % (metrics["ringpost_spool_bytes_total"], len(content)),
    )
    check_events(relay.events(), finished=True)


@test
def one_that_waits_does_not_fill_the_spool(t):
    """Several times what the spool may hold passes by a message that is put off; it is delivered after a restart, once the MX is willing."""
    address = free_address()
    port = free_port(address)
    willing = {"now": False}
    late = FakeMx(t, address, port, script={"RCPT": lambda *_: None if willing["now"] else "451 4.3.0 later"})
    passing_address = free_address()
    passing = FakeMx(t, passing_address, free_port(passing_address))
    segment, segments = 8 << 20, 3
    relay = Ringpost(
        t,
        {
            "shards": 1,
            "spool": {"segment_size": "8MiB", "max_size": "%dMiB" % (segments * segment >> 20)},
            "queue": {"retry_initial": "6s", "retry_max": "6s"},
            "routes": [route("late.example", (late.address, late.port)), route("*", (passing.address, passing.port))],
        },
    )
    waiting = b"Subject: waits\r\n\r\n" + (b"w" * 98 + b"\r\n") * 20000
    relay.send("a@b.example", ["one@late.example", "two@late.example"], waiting)
    until(lambda: relay.tally().get("TransientFailure", 0) >= 2, "both to be put off")
    content = b"Subject: passes\r\n\r\n" + (b"p" * 98 + b"\r\n") * 5000
    count = 5 * segments * segment // len(content)
    for i in range(count):  # with so small a spool 452 is fair for a moment, while a segment is being freed
        relay.send("a@b.example", ["r%d@d.example" % i], content, patience_s=10)
    relay.wait_outcomes(count)
    metrics = relay.metrics()
    equal(metrics["ringpost_queued_messages"], 1)
    equal(metrics["ringpost_spool_disk_bytes"] <= segments * segment, True, metrics["ringpost_spool_disk_bytes"])
    equal(late.recipients, [])
    relay.stop()
    willing["now"] = True
    relay.start()
    relay.wait_outcomes(count + 2)
    equal(sorted(late.recipients), ["one@late.example", "two@late.example"])
    equal({without_envelope_headers(message.content) == waiting for message in late.messages}, {True})
    equal(min(event["num_attempts"] for event in relay.events("Delivery") if event["recipient"].endswith("@late.example")) >= 2, True)


@test
def nothing_stays_when_all_is_delivered(t):
    relay, _ = relay_and_mx(t, {"delivery": {"idle": "200ms"}})
    send_many(relay, 50)
    relay.wait_outcomes(50)

    def idle():
        metrics = relay.metrics()
        return not any(
            metrics["ringpost_" + name]
            for name in ("sessions_open", "connections_open", "queued_messages", "ready_recipients", "deferred_recipients")
        )

    until(idle, lambda: "gauges to go back to 0: %s" % {k: v for k, v in relay.metrics().items() if not k.endswith("_total")})


run_all(5)
