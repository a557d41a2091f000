"""From a domain to its hosts, with real name servers: NSD has the zones, unbound resolves (or NSD is asked directly)."""
import socket

from fakemx import FakeMx, Gauge, Slow
from harness import equal, free_address, free_port, need_ipv6, run_all, test, until
from nameservers import Nsd, Resolver, TYPE_MX, ask
from relay import Ringpost, merge

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"


class World:
    """Addresses with one port for all MX hosts, FakeMx on those that live, zones, name servers and a relay that uses them."""

    def __init__(self, case, live=1, dead=0, ipv6=False):
        self.case = case
        self.live = [free_address() for _ in range(live)]
        self.dead = [free_address() for _ in range(dead)]
        everyone = self.live + self.dead + (["::1"] if ipv6 else [])
        self.port = free_port(*everyone)
        self.gauge = Gauge()
        self.mx = [FakeMx(case, address, self.port, gauge=self.gauge) for address in self.live + (["::1"] if ipv6 else [])]
        self.relay = None

    def start(self, records, config=None, direct=False, broken=()):
        zones = {"example": records, **{zone: None for zone in broken}}
        dns = Nsd(self.case, zones) if direct else Resolver(self.case, zones)
        self.relay = Ringpost(self.case, merge({"dns": {"servers": [dns.where]}, "delivery": {"port": self.port}}, config or {}))
        return self.relay, dns

    def deliver(self, recipient):
        """Sends one message and returns the event that ends it."""
        number = self.relay.send("a@b.example", recipient, CONTENT)
        return until(
            lambda: self.relay.finals(number=number),
            lambda: "an end of %s; there are %s\n%s" % (recipient, self.relay.tally(), self.relay.log()[-1500:]),
        )[0]


def enhanced(event):
    return "%(class)d.%(subject)d.%(detail)d" % event["response"]["enhanced_code"]


@test
def the_best_preference_is_taken(t):
    world = World(t, live=3)
    world.start(["d MX 30 c", "d MX 10 a", "d MX 20 b"] + ["%s A %s" % (name, address) for name, address in zip("abc", world.live)])
    for i in range(5):
        end = world.deliver("r%d@d.example" % i)
        equal((end["type"], end["peer_address"]["addr"], end["peer_address"]["name"]), ("Delivery", world.live[0], "a.example"))
    equal([mx.connections > 0 for mx in world.mx], [True, False, False])


@test
def a_dead_first_mx_falls_through_to_the_second(t):
    world = World(t, live=1, dead=2)
    world.start(["d MX 10 a", "d MX 20 b", "d MX 30 c", "a A " + world.dead[0], "b A " + world.dead[1], "c A " + world.live[0]])
    end = world.deliver("r@d.example")
    equal((end["type"], end["peer_address"]["addr"], end["num_attempts"]), ("Delivery", world.live[0], 1))
    equal(world.relay.tally().get("TransientFailure"), None)


@test
def the_rest_of_the_best_preference_comes_before_the_next(t):
    """Of two equal hosts one is dead: connections that begin with it go on to the other, not down."""
    world = World(t, live=2, dead=1)
    world.mx[0].script["MAIL"] = lambda *_: Slow(0.05)
    world.start(
        ["d MX 10 a", "d MX 10 b", "d MX 20 c", "a A " + world.live[0], "b A " + world.dead[0], "c A " + world.live[1]],
        {"shards": 1, "delivery": {"connections_per_site": 6, "messages_per_connection": 2}},
    )
    for i in range(40):
        world.relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
    world.relay.wait_outcomes(40)
    equal([len(mx.messages) for mx in world.mx], [40, 0])


@test
def several_addresses_of_one_mx_and_one_of_them_dead(t):
    world = World(t, live=2, dead=2)
    world.start(["d MX 10 a"] + ["a A " + address for address in world.dead + world.live])
    for i in range(10):
        equal(world.deliver("r%d@d.example" % i)["type"], "Delivery")
    equal(world.relay.tally().get("TransientFailure"), None)


@test
def equal_preferences_share_the_load(t):
    """More connections than one, so both hosts are to be used."""
    world = World(t, live=2)
    world.start(
        ["d MX 10 a", "d MX 10 b", "a A " + world.live[0], "b A " + world.live[1]],
        {"shards": 1, "delivery": {"connections_per_site": 4, "messages_per_connection": 2}},
    )
    for i in range(60):
        world.relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
    world.relay.wait_outcomes(60)
    equal(all(len(mx.messages) >= 5 for mx in world.mx), True, [len(mx.messages) for mx in world.mx])


@test
def null_mx_bounces(t):
    world = World(t)
    world.start(["d MX 0 .", "d A " + world.live[0]])
    end = world.deliver("r@d.example")
    equal((end["type"], enhanced(end), end["verdict"]), ("Bounce", "5.1.10", "hard"))
    equal(world.mx[0].connections, 0)


@test
def no_such_domain_bounces(t):
    world = World(t)
    world.start(["d MX 0 a"])
    end = world.deliver("r@nowhere.example")
    equal((end["type"], end["verdict"], enhanced(end)), ("Bounce", "hard", "5.1.2"))


@test
def a_domain_without_any_address_bounces(t):
    world = World(t)
    world.start(['d TXT "nothing else"'])
    end = world.deliver("r@d.example")
    equal((end["type"], enhanced(end)), ("Bounce", "5.1.2"))


@test
def mx_hosts_without_addresses_bounce(t):
    world = World(t)
    world.start(["d MX 10 a", "d MX 20 nowhere", 'a TXT "nothing else"'])
    end = world.deliver("r@d.example")
    equal((end["type"], enhanced(end)), ("Bounce", "5.4.4"))


@test
def one_mx_host_without_address_is_passed_over(t):
    world = World(t)
    world.start(["d MX 10 nowhere", "d MX 20 a", "a A " + world.live[0]])
    equal(world.deliver("r@d.example")["type"], "Delivery")


@test
def a_domain_without_mx_is_its_own_host(t):
    world = World(t)
    world.start(["d A " + world.live[0]])
    end = world.deliver("r@d.example")
    equal((end["type"], end["peer_address"]["name"]), ("Delivery", "d.example"))


@test
def cnames_are_followed(t):
    world = World(t)
    world.start(["d CNAME real", "real MX 10 a", "a CNAME b", "b A " + world.live[0]])
    end = world.deliver("r@d.example")
    equal((end["type"], end["queue"]), ("Delivery", "d.example"))
    equal(world.mx[0].recipients, ["r@d.example"])


@test
def a_loop_of_cnames_ends(t):
    world = World(t)
    world.start(["d CNAME e", "e CNAME d"], {"queue": {"max_age": "2s"}})
    equal(world.deliver("r@d.example")["type"] in ("Bounce", "Expiration"), True)


@test
def ipv6_is_used(t):
    need_ipv6()
    world = World(t, live=0, ipv6=True)
    world.start(["d MX 10 a", "a AAAA ::1"])
    end = world.deliver("r@d.example")
    equal((end["type"], end["peer_address"]["addr"]), ("Delivery", "::1"))


@test
def ipv4_is_used_where_ipv6_is_dead(t):
    need_ipv6()
    world = World(t)
    world.start(["d MX 10 a", "a AAAA ::1", "a A " + world.live[0]])
    equal(world.deliver("r@d.example")["peer_address"]["addr"], world.live[0])


@test
def servfail_defers(t):
    world = World(t)
    world.start(["d MX 0 a"], {"queue": {"max_age": "2500ms"}}, broken=["broken"])
    end = world.deliver("r@d.broken")
    equal(end["type"], "Expiration")
    first = world.relay.events("TransientFailure")[0]
    equal((first["response"]["code"] // 100, first["verdict"]), (4, "soft"))


@test
def no_name_server_at_all_defers(t):
    world = World(t)
    relay = world.relay = Ringpost(
        t, {"dns": {"servers": ["%s:%d" % (free_address(), world.port)], "timeout": "200ms"}, "queue": {"max_age": "2500ms"}}
    )
    end = world.deliver("r@d.example")
    equal((end["type"], relay.events("TransientFailure")[0]["verdict"]), ("Expiration", "soft"))


@test
def a_name_server_that_never_answers_defers(t):
    world = World(t)
    address = free_address()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((address, world.port))
        relay = world.relay = Ringpost(
            t, {"dns": {"servers": ["%s:%d" % (address, world.port)], "timeout": "200ms"}, "queue": {"max_age": "3s"}, "delivery": {"port": world.port}}
        )
        end = world.deliver("r@d.example")
        first = relay.events("TransientFailure")[0]
        equal((end["type"], first["response"]["code"], enhanced(first)), ("Expiration", 451, "4.4.3"))
        equal((first["response"]["command"], first["response"]["content"]), ("DNS", "no name server replied about d.example"))
        equal((first["verdict"], first["category"]), ("soft", "dns"))
        equal(first["timestamp"] - first["created"] < 5, True, "gave up in time")
        equal(world.deliver("r@[%s]" % world.live[0])["type"], "Delivery")  # what needs no name server goes on


@test
def a_dead_name_server_does_not_matter_while_another_lives(t):
    world = World(t)
    nsd = Nsd(t, {"example": ["d MX 10 a", "a A " + world.live[0]]})
    world.relay = Ringpost(
        t, {"dns": {"servers": ["%s:%d" % (free_address(), nsd.port), nsd.where], "timeout": "500ms"}, "delivery": {"port": world.port}}
    )
    equal(world.deliver("r@d.example")["type"], "Delivery")


@test
def name_servers_back_from_the_dead_are_used(t):
    world = World(t)
    zones = {"example": ["d MX 10 a", "a A " + world.live[0]]}
    port = free_port("127.0.0.1")
    first = Nsd(t, zones, port=port)
    world.relay = Ringpost(t, {"dns": {"servers": [first.where], "timeout": "200ms"}, "delivery": {"port": world.port}})
    first.stop()
    number = world.relay.send("a@b.example", "r@d.example", CONTENT)
    world.relay.wait_event("TransientFailure", "r@d.example")
    again = Nsd(t, zones, port=port, address=first.address)
    equal(again.where, first.where)
    equal(until(lambda: world.relay.finals(number=number), "delivery after the name server came back")[0]["type"], "Delivery")


@test
def long_answers_come_over_tcp(t):
    """Sixteen MX of long names: NSD truncates this over UDP."""
    world = World(t)
    names = ["-".join("%02d" % i for _ in range(20)) for i in range(16)]
    records = ["d MX %d %s" % (10 + i, name) for i, name in enumerate(names)] + ["%s A %s" % (name, world.live[0]) for name in names]
    _, nsd = world.start(records, direct=True)
    equal(ask(nsd.address, nsd.port, "d.example", TYPE_MX)[2], True, "truncated over UDP")
    end = world.deliver("r@d.example")
    equal((end["type"], end["peer_address"]["name"]), ("Delivery", names[0] + ".example"))


@test
def domains_of_one_mx_set_are_one_site(t):
    world = World(t, live=2)
    records = ["a A " + world.live[0], "b A " + world.live[1]]
    for i in range(20):
        records += ["d%d MX 10 a" % i, "d%d MX 20 b" % i]
    world.start(records, {"delivery": {"connections_per_site": 2}})
    for i in range(60):
        world.relay.send("s@b.example", "r%d@d%d.example" % (i, i % 20), CONTENT)
    ends = world.relay.wait_outcomes(60)
    equal({end["type"] for end in ends}, {"Delivery"})
    equal(len({end["site"] for end in ends}), 1)
    equal(world.gauge.most <= 2, True, "%d connections at once" % world.gauge.most)


@test
def our_own_name_in_the_mx_set_is_a_loop(t):
    world = World(t)
    world.start(["d MX 10 self.relay", "self.relay A " + world.live[0]], {"hostname": "self.relay.example"})
    end = world.deliver("r@d.example")
    equal((end["type"], enhanced(end)), ("Bounce", "5.4.6"))


@test
def upper_case_domains_are_the_same(t):
    world = World(t)
    world.start(["d MX 10 a", "a A " + world.live[0]])
    end = world.deliver("R@D.EXAMPLE")
    equal((end["type"], end["queue"]), ("Delivery", "d.example"))
    equal(world.mx[0].recipients, ["R@D.EXAMPLE"])


@test
def umlauts_in_domains_are_asked_for_as_a_labels(t):
    world = World(t)
    world.start(["gr\u00fcn".encode("idna").decode() + " MX 10 a", "a A " + world.live[0]])
    number = world.relay.send("a@b.example", "r@gr\u00fcn.example", CONTENT, "SMTPUTF8")
    equal(until(lambda: world.relay.finals(number=number), lambda: "an end; log %s" % world.relay.log())[0]["type"], "Delivery")


@test
def address_literals_need_no_dns(t):
    world = World(t)
    world.start(["d MX 10 a"])
    end = world.deliver("r@[%s]" % world.live[0])
    equal((end["type"], end["peer_address"]["addr"]), ("Delivery", world.live[0]))


@test
def address_literals_of_ipv6_need_no_dns(t):
    need_ipv6()
    world = World(t, live=0, ipv6=True)
    world.start(["d MX 10 a"])
    end = world.deliver("r@[IPv6:::1]")
    equal((end["type"], end["peer_address"]["addr"]), ("Delivery", "::1"))


@test
def routes_win_over_dns(t):
    world = World(t, live=3)
    hosts = ["%s:%d" % (address, world.port) for address in world.live]
    world.start(
        ["d MX 10 a", "e MX 10 a", "a A " + world.live[0]],
        {
            "routes": [
                {"domain": "d.example", "hosts": [hosts[1]]},
                {"domain": "two.example", "hosts": ["%s:%d" % (free_address(), world.port), hosts[2]]},
            ]
        },
    )
    for domain, address in (("d.example", world.live[1]), ("e.example", world.live[0]), ("two.example", world.live[2]), ("D.Example", world.live[1])):
        equal(world.deliver("r@" + domain)["peer_address"]["addr"], address, domain)


@test
def the_cache_answers(t):
    world = World(t)
    world.start(["d MX 10 a", "a A " + world.live[0]], {"shards": 1})
    for i in range(10):
        world.deliver("r%d@d.example" % i)
    equal(world.relay.metrics()["ringpost_dns_queries_total"] <= 6, True, "queries for one domain")


run_all()
