"""Settings for some destinations (`sites:`), by the recipient's domain and by its MX hosts, which real name servers tell."""
from fakemx import FakeMx, Gauge, Slow
from harness import equal, free_address, free_port, run_all, test, until
from nameservers import Resolver
from relay import Ringpost, check_events, relay_and_mx, route

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"


def attempts_of(relay, recipient):
    return len(relay.events("TransientFailure", recipient))


@test
def retries_and_age_are_those_of_the_domain(t):
    relay, _ = relay_and_mx(
        t,
        {
            "queue": {"retry_initial": "300ms", "retry_factor": 1, "retry_max": "300ms", "max_age": "1h"},
            "sites": [
                {"match": ["slow.example"], "retry_initial": "10m", "retry_max": "10m"},
                {"match": ["*.below.example", "hasty.example"], "max_age": "1s", "retry_jitter": "0%"},
            ],
        },
        script={"RCPT": lambda *_: "450 4.2.1 later"},
    )
    relay.send("a@b.example", ["r@slow.example", "r@hasty.example", "r@Any.below.example", "r@other.example", "r@below.example"], CONTENT)
    ends = relay.wait_outcomes(2)
    equal(sorted((end["type"], end["recipient"]) for end in ends), [("Expiration", "r@Any.below.example"), ("Expiration", "r@hasty.example")])
    for end in ends:
        equal(1 <= end["timestamp"] - end["created"] < 10, True, "age %s" % (end["timestamp"] - end["created"]))
    until(lambda: attempts_of(relay, "r@other.example") >= 5, "others to be tried again and again")
    equal(attempts_of(relay, "r@below.example") >= 2, True)
    equal(attempts_of(relay, "r@slow.example"), 1)
    equal(len(relay.finals()), 2)


@test
def a_restart_keeps_to_the_age_of_the_domain(t):
    """What waits on disk has no age of its own: it is the configuration's."""
    relay, _ = relay_and_mx(
        t,
        {"queue": {"retry_initial": "1h", "retry_max": "1h"}, "sites": [{"match": ["hasty.example"], "max_age": "8s"}]},
        script={"RCPT": lambda *_: "450 4.2.1 later"},
    )
    relay.send("a@b.example", ["r@hasty.example", "r@other.example"], CONTENT)
    until(lambda: relay.tally().get("TransientFailure", 0) >= 2, "both to be put off")
    relay.stop()
    relay.start()
    ends = relay.wait_outcomes(1)
    equal([(end["type"], end["recipient"], end["num_attempts"]) for end in ends], [("Expiration", "r@hasty.example", 2)])
    check_events(relay.events())


@test
def connections_and_messages_are_limited_by_the_domain(t):
    few, many = free_address(), free_address()
    port = free_port(few, many)
    begun = {}

    def mail(session, _):
        begun[session.number] = begun.get(session.number, 0) + 1
        return Slow(0.01)

    limited = FakeMx(t, few, port, script={"MAIL": mail})
    others = FakeMx(t, many, port, script={"MAIL": lambda *_: Slow(0.01)})
    relay = Ringpost(
        t,
        {
            "routes": [route("few.example", (few, port)), route("*", (many, port))],
            "delivery": {"connections_per_site": 6},
            "sites": [{"match": ["few.example"], "connections_per_site": 2, "messages_per_connection": 7}],
        },
    )
    for i in range(60):
        relay.send("a@b.example", ["r%d@few.example" % i, "r%d@many.example" % i], CONTENT)
    relay.wait_outcomes(120)
    equal((len(limited.messages), len(others.messages)), (60, 60))
    equal(limited.gauge.most <= 2, True, "%d connections" % limited.gauge.most)
    equal(max(begun.values()) <= 7, True, "messages per connection: %s" % begun)
    equal(others.gauge.most > 2, True, "%d connections where there may be 6" % others.gauge.most)


@test
def the_lowest_limit_of_two_domains_counts_for_their_site(t):
    """Mail for the wide one comes first, to all shards; then the narrow one turns out to live at the same hosts."""
    relay, mx = relay_and_mx(
        t,
        {
            "shards": 4,
            "delivery": {"connections_per_site": 8, "messages_per_connection": 1000},
            "sites": [{"match": ["wide.example"], "connections_per_site": 12}, {"match": ["narrow.example"], "connections_per_site": 2}],
        },
        script={"MAIL": lambda *_: Slow(0.01)},
    )
    for i in range(300):
        relay.send("a@b.example", "r%d@wide.example" % i, CONTENT)
    relay.wait_outcomes(300)
    equal(2 < mx.gauge.most <= 12, True, "%d connections" % mx.gauge.most)
    relay.send("a@b.example", "r@narrow.example", CONTENT)
    relay.wait_outcomes(301)
    until(lambda: mx.gauge.now <= 2, "the connections above the limit to end")
    mx.gauge.most = 0
    for i in range(300):
        relay.send("a@b.example", "s%d@wide.example" % i, CONTENT)
    relay.wait_outcomes(601)
    equal(1 <= mx.gauge.most <= 2, True, "%d connections" % mx.gauge.most)


@test
def a_pattern_matches_the_mx_hosts_of_any_domain(t):
    address = free_address()
    port = free_port(address)
    gauge = Gauge()
    begun = {}

    def mail(session, _):
        begun[session.number] = begun.get(session.number, 0) + 1
        return Slow(0.01)

    mx = FakeMx(t, address, port, gauge=gauge, script={"MAIL": mail, "RCPT": lambda _, to: "450 4.2.1 later" if to.startswith("late") else None})
    dns = Resolver(t, {"example": ["one MX 10 a.mx", "two MX 10 a.mx", "a.mx A " + address]})
    relay = Ringpost(
        t,
        {
            "dns": {"servers": [dns.where]},
            "delivery": {"port": port, "connections_per_site": 8},
            "sites": [
                {"match": ["two.example"], "max_age": "1h"},
                {"match": ["*.mx.example"], "connections_per_site": 2, "messages_per_connection": 9, "max_age": "1500ms"},
            ],
        },
    )
    for i in range(40):
        relay.send("a@b.example", ["r%d@one.example" % i, "r%d@two.example" % i], CONTENT)
    relay.wait_outcomes(80)
    equal(sorted(mx.recipients), sorted("r%d@%s.example" % (i, name) for i in range(40) for name in ("one", "two")))
    equal(gauge.most <= 2, True, "%d connections" % gauge.most)
    equal(max(begun.values()) <= 9, True, "messages per connection: %s" % begun)
    relay.send("a@b.example", ["late@one.example", "late@two.example"], CONTENT)
    ends = relay.wait_outcomes(81)
    equal([(end["type"], end["recipient"]) for end in ends if end["type"] != "Delivery"], [("Expiration", "late@one.example")])
    equal(attempts_of(relay, "late@two.example") >= 2, True, "the first entry that matches counts, for its domain: ")


run_all(4)
