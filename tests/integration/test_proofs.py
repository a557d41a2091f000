"""What hosts have to prove before mail goes there: DANE against zones that are really signed, MTA-STS with policies from a real web server; Postfix and others receive."""
import hashlib
import os
import re
import signal
import smtplib
import ssl
import threading
import time

from certificates import certificate, openssl
from fakemx import Cut, FakeMx, Slow, tls_context
from harness import equal, free_address, free_port, run_all, test, until
from mtas import Postfix
from nameservers import Resolver, SignedResolver
from policies import Server
from relay import Ringpost, merge, yaml

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"
OFTEN = {"queue": {"retry_initial": "300ms", "retry_factor": 1, "retry_max": "300ms", "retry_jitter": "0%"}}
POLICY = "version: STSv1\nmode: %s\n%smax_age: 86400\n"


def spki(certified):
    key = openssl("x509", "-in", certified["cert"], "-pubkey", "-noout")
    return hashlib.sha256(openssl("pkey", "-pubin", "-outform", "DER", input=key)).hexdigest()


def whole(certified):
    return hashlib.sha256(openssl("x509", "-in", certified["cert"], "-outform", "DER")).hexdigest()


def other(digest):
    return "%064x" % (int(digest, 16) ^ 1)


class Host:
    """An MX host of one test: all of them listen on one port, on addresses of their own."""

    def __init__(self, t, name, certified=None, script=None, server=FakeMx, **options):
        self.address = free_address()
        t.mx_port = self.port = getattr(t, "mx_port", None) or free_port(self.address)
        self.name = name
        self.certified = certified or certificate(t, name, (name,))
        if server is Postfix:
            self.mx = Postfix(t, self.address, self.port, certified=self.certified)
        else:
            options.setdefault("tls", tls_context(self.certified))
            self.mx = FakeMx(t, self.address, self.port, script=script, **options)

    def tlsa(self, data=None, label=None):
        return "_%d._tcp.%s TLSA %s" % (self.port, label or self.name.split(".")[0], data or "3 1 1 " + spki(self.certified))

    def only_greetings_in_clear(self):
        return all(line.split(" ")[0].upper() in ("EHLO", "STARTTLS", "QUIT") for _, line in self.mx.in_clear)


def relay_by(t, dns, config=None, **options):
    base = {"dns": {"servers": [dns.where], "ipv6": False}, "delivery": {"port": t.mx_port, "mta_sts": False}}
    return Ringpost(t, merge(merge(base, OFTEN), config or {}), **options)


def signed(t, zones, **options):
    """All of them are below test, and `plain` ones are not signed."""
    return SignedResolver(t, {"test": ["nothing TXT here"], **zones}, **options)


def find(relay, kind, domain, id=None):
    """The first such event of a domain's mail, once it is there."""
    def found():
        return [event for event in relay.events(kind, number=id) if event["queue"] == domain]

    until(found, lambda: "%s of %s; there are %s; log:\n%s" % (kind, domain, relay.events()[-4:], relay.log()[-1500:]))
    return found()[0]


def first_failure(relay, domain):
    return find(relay, "TransientFailure", domain)


def send(relay, domain, name="r"):
    return relay.send("a@b.example", ["%s@%s" % (name, domain)], CONTENT)


def deliver(relay, domain, name="r"):
    """Sends one there, and gives its Delivery."""
    return find(relay, "Delivery", domain, send(relay, domain, name))


def reload(relay, changes):
    said = relay.log().count("is read again and in use")
    relay.config = merge(relay.config, changes)
    relay.case.write(os.path.basename(relay.config_path), yaml(relay.config) + "\n")
    relay.process.signal(signal.SIGHUP)
    until(lambda: relay.log().count("is read again and in use") > said, relay.log)


def check_deferred(event, policy, result, text):
    equal((event.get("tls_policy"), event.get("tls_result")), (policy, result), str(event))
    response = event["response"]
    equal((response["code"], response["enhanced_code"]), (451, {"class": 4, "subject": 7, "detail": 5}), str(event))
    assert re.search(text, response["content"]), event
    assert response["command"] in ("TLS", "STARTTLS"), event
    equal(event["category"], "tls")


# ---- DANE ----


@test
def a_record_that_matches_delivers(t):
    """Whatever the certificate's name, and whoever signed it."""
    host = Host(t, "mx.good.test", certificate(t, "own", ("elsewhere.example",)), server=Postfix)
    dns = signed(t, {"good.test": ["@ MX 10 mx", "mx A " + host.address, host.tlsa()]})
    relay = relay_by(t, dns)
    event = deliver(relay, "good.test")
    equal((event["tls_protocol_version"], event["tls_policy"], event["site"]), ("TLSv1.3", "tlsa", "tls=dane,mx.good.test"))
    equal("tls_result" in event, False)
    host.mx.wait_messages(1)


@test
def a_record_that_does_not_match_defers(t):
    host = Host(t, "mx.wrong.test")
    dns = signed(t, {"wrong.test": ["@ MX 10 mx", "mx A " + host.address, host.tlsa("3 1 1 " + other(spki(host.certified)))]})
    relay = relay_by(t, dns)
    send(relay, "wrong.test")
    check_deferred(first_failure(relay, "wrong.test"), "tlsa", "certificate-not-trusted", "^TLS: .*no TLSA record matches")
    until(lambda: relay.tally().get("TransientFailure", 0) >= 3, relay.log)
    equal((host.mx.messages, host.only_greetings_in_clear()), ([], True), host.mx.in_clear)


@test
def without_starttls_nothing_goes(t):
    host = Host(t, "mx.clear.test", tls=None)
    dns = signed(t, {"clear.test": ["@ MX 10 mx", "mx A " + host.address, host.tlsa()]})
    relay = relay_by(t, dns)
    send(relay, "clear.test")
    check_deferred(first_failure(relay, "clear.test"), "tlsa", "starttls-not-supported", "does not offer it")
    equal("MAIL" in host.mx.verbs(), False)


@test
def tls_that_broke_is_no_reason_to_go_without(t):
    """Elsewhere a host whose handshake fails is spoken to in the clear for three days."""
    host = Host(t, "mx.broken.test", script={"HANDSHAKE": [Cut(), Cut(), None]})
    dns = signed(t, {"broken.test": ["@ MX 10 mx", "mx A " + host.address, host.tlsa()]})
    relay = relay_by(t, dns)
    send(relay, "broken.test")
    check_deferred(first_failure(relay, "broken.test"), "tlsa", "validation-failure", "^TLS: ")
    (event,) = relay.wait_outcomes(1)
    equal((event["type"], event["tls_policy"]), ("Delivery", "tlsa"))
    equal(host.only_greetings_in_clear(), True, host.mx.in_clear)


@test
def another_host_is_tried(t):
    wrong, right = Host(t, "a.two.test"), Host(t, "b.two.test")
    dns = signed(t, {"two.test": ["@ MX 10 a", "@ MX 20 b", "a A " + wrong.address, "b A " + right.address, wrong.tlsa("3 1 1 " + "00" * 32), right.tlsa()]})
    relay = relay_by(t, dns)
    equal(deliver(relay, "two.test")["peer_address"]["name"], "b.two.test")
    equal((relay.tally().get("TransientFailure", 0), wrong.mx.messages), (0, []))


@test
def without_records_all_is_as_before(t):
    """Also in the clear; and where addresses or MX are not signed records do not count."""
    clear = Host(t, "mx.none.test", tls=None)
    plain = Host(t, "mx.plain.test")
    dns = signed(
        t,
        {"none.test": ["@ MX 10 mx", "mx A " + clear.address, "far MX 10 mx.plain.test."],
         "plain.test": ["@ MX 10 mx", "mx A " + plain.address, plain.tlsa("3 1 1 " + "00" * 32)]},
        plain={"plain.test"},
    )
    relay = relay_by(t, dns)
    for domain in ("none.test", "plain.test", "far.none.test"):
        event = deliver(relay, domain)
        equal(("tls_policy" in event, event["site"].startswith("mx.")), (False, True), str(event))


@test
def records_of_no_use_ask_for_encryption(t):
    host, clear = Host(t, "mx.pkix.test"), Host(t, "clear.pkix.test", tls=None)
    records = ["@ MX 10 mx", "mx A " + host.address, host.tlsa("1 1 1 " + "00" * 32)]
    records += ["other MX 10 clear", "clear A " + clear.address, clear.tlsa("0 0 1 " + "00" * 32)]
    dns = signed(t, {"pkix.test": records})
    relay = relay_by(t, dns)
    event = deliver(relay, "pkix.test")
    equal((event["tls_policy"], event["tls_protocol_version"]), ("tlsa", "TLSv1.3"))
    send(relay, "other.pkix.test")
    check_deferred(first_failure(relay, "other.pkix.test"), "tlsa", "starttls-not-supported", "does not offer it")
    equal(clear.mx.messages, [])


@test
def what_cannot_be_found_out_defers(t):
    """The record is another than was signed: unbound says SERVFAIL. Of two hosts the other one is used."""
    host, second = Host(t, "mx.bogus.test"), Host(t, "mx.sound.test")
    dns = signed(
        t,
        {"bogus.test": ["@ MX 10 mx", "mx A " + host.address, host.tlsa("3 1 1 " + "0" * 64)],
         "sound.test": ["@ MX 10 mx.bogus.test.", "@ MX 20 mx", "mx A " + second.address, second.tlsa()]},
        after=lambda text, zone: re.sub(r"(TLSA\s+3 1 1 )0", r"\g<1>f", text) if zone == "bogus.test" else text,
    )
    relay = relay_by(t, dns)
    send(relay, "bogus.test")
    check_deferred(first_failure(relay, "bogus.test"), "tlsa", "dnssec-invalid", r"mx.bogus.test .*SERVFAIL")
    event = deliver(relay, "sound.test")
    equal((event["peer_address"]["name"], event["site"]), ("mx.sound.test", "tls=dane,mx.bogus.test,mx.sound.test"))
    equal(host.mx.connections, 0)


@test
def an_authority_in_dns_signs_for_the_domain_or_the_host(t):
    ca = certificate(t, "ca", ())
    names = {"host": "mx.host.test", "next": "next.test", "none": "else.test"}
    hosts = {}
    for zone, name in names.items():
        certified = certificate(t, zone, (name,), issuer=ca)
        with open(certified["cert"], "ab") as chain, open(ca["cert"], "rb") as authority:
            chain.write(authority.read())
        hosts[zone] = Host(t, "mx.%s.test" % zone, certified)
    zones = {zone + ".test": ["@ MX 10 mx", "mx A " + host.address, host.tlsa("2 0 1 " + whole(ca))] for zone, host in hosts.items()}
    zones["next.test"] += ["also MX 10 mx"]  # the same host: for this domain its certificate is for nobody
    dns = signed(t, zones)
    relay = relay_by(t, dns)
    equal(deliver(relay, "host.test")["site"], "tls=dane=host.test,mx.host.test")
    equal(deliver(relay, "next.test")["site"], "tls=dane=next.test,mx.next.test")
    for domain in ("none.test", "also.next.test"):
        send(relay, domain)
        check_deferred(first_failure(relay, domain), "tlsa", "certificate-host-mismatch", "ostname mismatch")
    equal([len(hosts[zone].mx.messages) for zone in names], [1, 1, 0])


@test
def the_operators_word_goes_before(t):
    host = Host(t, "mx.said.test")
    dns = signed(t, {"said.test": ["@ MX 10 mx", "mx A " + host.address, host.tlsa("3 1 1 " + "00" * 32), "other MX 10 mx"]})
    relay = relay_by(t, dns, {"sites": [{"match": ["said.test"], "tls": "require"}]})
    event = deliver(relay, "said.test")
    equal(("tls_policy" in event, event["tls_protocol_version"]), (False, "TLSv1.3"))
    send(relay, "other.said.test")
    check_deferred(first_failure(relay, "other.said.test"), "tlsa", "certificate-not-trusted", "no TLSA record matches")


@test
def a_reload_turns_it_on_and_off(t):
    host = Host(t, "mx.turned.test")
    dns = signed(t, {"turned.test": ["@ MX 10 mx", "mx A " + host.address, host.tlsa("3 1 1 " + "00" * 32)]})
    relay = relay_by(t, dns, {"delivery": {"dane": False}})
    equal("tls_policy" in deliver(relay, "turned.test"), False)
    reload(relay, {"delivery": {"dane": True}})
    send(relay, "turned.test")
    check_deferred(first_failure(relay, "turned.test"), "tlsa", "certificate-not-trusted", "no TLSA record matches")
    reload(relay, {"delivery": {"dane": False}})
    relay.wait_outcomes(2)
    equal(len(host.mx.messages), 2)


@test
def other_records_end_what_was_made_by_the_old_ones(t):
    """The connection has proved nothing of what is due now. In another order the records are the same."""
    host = Host(t, "mx.rolled.test")
    right, wrong = ["3 1 1 " + digest for digest in (spki(host.certified), "00" * 32)]
    lines = ["@ 1 MX 10 mx", "mx 1 A " + host.address]

    def records(*all_of_them):
        return lines + [host.tlsa(one).replace(" TLSA", " 1 TLSA") for one in all_of_them]

    dns = signed(t, {"rolled.test": records(right, wrong)})
    relay = relay_by(t, dns, {"shards": 1})
    deliver(relay, "rolled.test")
    for _ in range(3):
        time.sleep(1.1)
        deliver(relay, "rolled.test")
    equal(host.mx.connections, 1)
    dns.change("rolled.test", records(wrong))

    def refused():
        id = send(relay, "rolled.test")
        return until(lambda: relay.events("TransientFailure", number=id) or relay.events("Delivery", number=id), relay.tally)[0]["type"] != "Delivery"

    until(refused, relay.tally, every_s=0.3)
    check_deferred(first_failure(relay, "rolled.test"), "tlsa", "certificate-not-trusted", "no TLSA record matches")
    equal((refused(), host.mx.open_sessions), (True, 0))


# ---- MTA-STS ----


class Web:
    """A test authority, and a web server with policies of the domains; all are announced with id 1."""

    def __init__(self, t, **policies):
        self.ca = certificate(t, "authority", ())
        domains = [name + ".example" for name in policies]
        own = certificate(t, "web", ["mta-sts." + domain for domain in domains], issuer=self.ca)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(own["cert"], own["key"])
        self.server = Server(t, context)
        for name, (mode, hosts) in policies.items():
            self.set(name, mode, hosts)
        self.records = ['_mta-sts.%s 1 TXT "v=STSv1; id=1;"' % name for name in policies]

    def set(self, name, mode, hosts):
        self.server.answers[name + ".example"] = (200, "text/plain", POLICY % (mode, "".join("mx: %s\n" % host for host in hosts)))

    def certified(self, t, name):
        return certificate(t, name, (name,), issuer=self.ca)


def relay_with(t, web, dns, config=None, **options):
    """One shard: another one may know of a policy already that this one has just begun to fetch."""
    base = {"shards": 1, "tls": {"ca": web.ca["cert"]}, "delivery": {"mta_sts": True, "mta_sts_server": web.server.where}}
    return relay_by(t, dns, merge(base, config or {}), **options)


def learn(relay, *domains):
    """Mail for them brings their policies: the first one goes without."""
    for domain in domains:
        equal("tls_policy" in deliver(relay, domain, "first"), False)
    # Who asks within a second is not asked about again.
    time.sleep(1.5)


def mx_lines(host, *names):
    return ["%s MX 10 %s" % (name, host.name.split(".")[0]) for name in names] + ["%s A %s" % (host.name.split(".")[0], host.address)]


@test
def enforce_delivers_to_whom_an_authority_signed_for(t):
    web = Web(t, right=("enforce", ["mx.example"]))
    host = Host(t, "mx.example", web.certified(t, "mx.example"), server=Postfix)
    relay = relay_with(t, web, Resolver(t, {"example": mx_lines(host, "right") + web.records}))
    learn(relay, "right.example")
    event = deliver(relay, "right.example")
    equal((event["tls_policy"], event["site"], event["tls_protocol_version"], event.get("tls_result")), ("sts", "tls=sts,mx.example", "TLSv1.3", None))
    host.mx.wait_messages(2)


@test
def enforce_refuses_all_others(t):
    """A certificate for another name, of nobody, past its time; none at all; a host that the policy does not list."""
    names = ("name", "nobody", "clear", "listed")
    web = Web(t, **{name: ("enforce", ["mx%s.example" % name if name != "listed" else "other.example"]) for name in names})
    hosts = {
        "name": Host(t, "mxname.example", web.certified(t, "mxother.example")),
        "nobody": Host(t, "mxnobody.example"),
        "clear": Host(t, "mxclear.example", tls=None),
        "listed": Host(t, "mxlisted.example", web.certified(t, "mxlisted.example")),
    }
    zone = sum((mx_lines(host, name) for name, host in hosts.items()), web.records)
    relay = relay_with(t, web, Resolver(t, {"example": zone}))
    learn(relay, *(name + ".example" for name in names))
    for host in hosts.values():
        del host.mx.in_clear[:]
    expected = {
        "name": ("certificate-host-mismatch", "^TLS: .*ostname mismatch"),
        "nobody": ("certificate-not-trusted", "^TLS: .*self.signed"),
        "clear": ("starttls-not-supported", "does not offer it"),
        "listed": ("validation-failure", "the MTA-STS policy of the domain allows none of its MX hosts, as mxlisted.example"),
    }
    for name, (result, text) in expected.items():
        send(relay, name + ".example")
        check_deferred(first_failure(relay, name + ".example"), "sts", result, text)
    for name, host in hosts.items():
        equal((len(host.mx.messages), host.only_greetings_in_clear()), (1, True), name)


@test
def testing_delivers_and_tells(t):
    """Of the certificate, of a host that is not listed, of TLS that is not there."""
    web = Web(t, cert=("testing", ["mx*.example", "mxcert.example"]), listed=("testing", ["other.example"]), clear=("testing", ["mxclear.example"]), fine=("testing", ["mxfine.example"]))
    hosts = {
        "cert": Host(t, "mxcert.example"),
        "listed": Host(t, "mxlisted.example", web.certified(t, "mxlisted.example")),
        "clear": Host(t, "mxclear.example", tls=None),
        "fine": Host(t, "mxfine.example", web.certified(t, "mxfine.example")),
    }
    web.set("cert", "testing", ["mxcert.example"])
    zone = sum((mx_lines(host, name) for name, host in hosts.items()), web.records)
    relay = relay_with(t, web, Resolver(t, {"example": zone}))
    learn(relay, *(name + ".example" for name in hosts))
    expected = {"cert": "certificate-not-trusted", "listed": "validation-failure", "clear": "starttls-not-supported", "fine": None}
    for name, result in expected.items():
        event = deliver(relay, name + ".example")
        equal((event["tls_policy"], event.get("tls_result")), ("sts", result), name)
    equal(relay.tally().get("TransientFailure", 0), 0)


@test
def a_lax_session_carries_no_mail_of_a_strict_domain(t):
    """Both have the same MX, whose certificate is nobody's: the connection that is open for the one is not used for the other."""
    web = Web(t, strict=("enforce", ["mx.example"]))
    host = Host(t, "mx.example")
    relay = relay_with(t, web, Resolver(t, {"example": mx_lines(host, "strict", "lax") + web.records}), {"delivery": {"connections_per_site": 1}})
    learn(relay, "strict.example")
    connections = host.mx.connections
    equal("tls_policy" in deliver(relay, "lax.example"), False)
    equal(host.mx.connections, connections)
    send(relay, "strict.example")
    check_deferred(first_failure(relay, "strict.example"), "sts", "certificate-not-trusted", "^TLS: ")
    deliver(relay, "lax.example", "second")
    equal((len(host.mx.messages), host.mx.open_sessions), (3, 1))


@test
def mail_that_waits_goes_by_what_is_known_when_it_goes(t):
    """It stands behind another when the policy comes: then it has to wait for what that asks for, as the host's certificate is nobody's."""
    web = Web(t, late=("enforce", ["mx.example"]))
    host = Host(t, "mx.example", script={"FINAL": [Slow(3)]}, capabilities=("PIPELINING",))
    config = {"delivery": {"connections_per_site": 1, "pipelining": False}}
    relay = relay_with(t, web, Resolver(t, {"example": mx_lines(host, "late") + web.records}), config)
    first, second = send(relay, "late.example", "first"), send(relay, "late.example", "second")
    until(lambda: web.server.asked.get("late.example"), "the policy to be fetched")
    time.sleep(1.2)
    send(relay, "late.example", "third")
    find(relay, "Delivery", "late.example", first)
    check_deferred(find(relay, "TransientFailure", "late.example", second), "sts", "certificate-not-trusted", "^TLS: ")
    equal([received.recipients for received in host.mx.messages], [["first@late.example"]])


@test
def all_shards_go_by_it(t):
    """Mail is handed from shard to shard, and connections are lent: none of that makes a strict domain's mail go over a connection that has proved nothing."""
    web = Web(t, strict=("enforce", ["mx.example"]))
    host = Host(t, "mx.example")
    relay = relay_with(t, web, Resolver(t, {"example": mx_lines(host, "strict", "lax") + web.records}), {"shards": 3})
    send(relay, "strict.example")
    until(lambda: web.server.asked.get("strict.example"), "the policy to be fetched")
    time.sleep(1.5)
    before = len(host.mx.messages)
    for i in range(30):
        send(relay, "strict.example" if i % 2 else "lax.example", "n%d" % i)
    until(lambda: len(relay.events("Delivery")) >= before + 15 and len({event["recipient"] for event in relay.events("TransientFailure")}) >= 15, relay.tally)
    strict = [received.recipients for received in host.mx.messages[before:] if "strict" in received.recipients[0]]
    equal(strict, [])


@test
def a_stop_does_not_wait_for_a_web_server(t):
    """It is silent, and the mail has gone without."""
    web = Web(t, silent=("enforce", ["mx.example"]))
    host, let_go = Host(t, "mx.example"), threading.Event()
    t.at_end(let_go.set)
    web.server.answers["silent.example"] = lambda handler: let_go.wait(60)
    relay = relay_with(t, web, Resolver(t, {"example": mx_lines(host, "silent") + web.records}))
    for i in range(2):
        equal("tls_policy" in deliver(relay, "silent.example"), False)
        until(lambda: web.server.asked.get("silent.example"), "the policy to be fetched")
        time.sleep(1.2)
    begun = time.monotonic()
    relay.stop()
    assert time.monotonic() - begun < 10, relay.log()


@test
def a_policy_survives_a_restart(t):
    """The first mail after it is judged by it, though neither DNS nor the web server speaks of it any more."""
    web = Web(t, kept=("enforce", ["mx.example"]))
    host = Host(t, "mx.example")
    dns = Resolver(t, {"example": mx_lines(host, "kept") + web.records})
    relay = relay_with(t, web, dns)
    learn(relay, "kept.example")
    relay.stop()
    web.server.answers = {}
    relay.start()
    send(relay, "kept.example")
    check_deferred(first_failure(relay, "kept.example"), "sts", "certificate-not-trusted", "^TLS: ")
    equal(len(host.mx.messages), 1)
    assert os.path.exists(os.path.join(relay.config["spool"]["path"], "mta-sts.json"))


@test
def dane_goes_before_the_policy(t):
    """The host is not listed, and its certificate is nobody's, but DNSSEC says that it is the right one."""
    web = Web(t, both=("enforce", ["other.example"]))
    host = Host(t, "mx.both.example")
    zones = {"example": ["ns2 A 127.0.0.1"], "both.example": ["@ MX 10 mx", "mx A " + host.address, host.tlsa(), '_mta-sts 1 TXT "v=STSv1; id=1;"']}
    relay = relay_with(t, web, SignedResolver(t, zones))
    for i in range(2):
        event = deliver(relay, "both.example")
        equal((event["tls_policy"], event["site"]), ("tlsa", "tls=dane,mx.both.example"))
        until(lambda: web.server.asked.get("both.example"), "the policy to be fetched")
        time.sleep(1.5)


# ---- REQUIRETLS ----


def with_listener(t, config):
    """The relay's own TLS, so that clients may ask for REQUIRETLS."""
    own = certificate(t, "relay")
    return merge({"shards": 1, "tls": {"certificates": [own]}}, config)


def send_required(relay, domain, name="r"):
    """Returns its id."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with smtplib.SMTP(relay.address, relay.port, timeout=20) as client:
        client.ehlo()
        equal(client.has_extn("requiretls"), False)
        equal(client.docmd("MAIL FROM:<a@b.example> REQUIRETLS")[0], 555)
        client.starttls(context=context)
        client.ehlo()
        equal(client.has_extn("requiretls"), True)
        equal(client.docmd("MAIL FROM:<a@b.example> REQUIRETLS")[0], 250)
        equal(client.docmd("RCPT TO:<%s@%s>" % (name, domain))[0], 250)
        code, text = client.data(CONTENT)
        equal(code, 250)
    return re.search(rb"[0-9a-f]{16}", text).group().decode()


REQUIRES = ("PIPELINING", "8BITMIME", "REQUIRETLS")


@test
def requiretls_goes_to_whom_is_known_and_takes_it_over(t):
    """By an authority, or by DANE; the parameter goes with it. Mail without it goes over a connection of its own."""
    ca = certificate(t, "ca", ())
    pki = Host(t, "mx.pki.test", certificate(t, "pki", ("mx.pki.test",), issuer=ca), capabilities=REQUIRES)
    dane = Host(t, "mx.dane.test", capabilities=REQUIRES)
    dns = signed(t, {"pki.test": ["@ MX 10 mx", "mx A " + pki.address], "dane.test": ["@ MX 10 mx", "mx A " + dane.address, dane.tlsa()]})
    relay = relay_by(t, dns, with_listener(t, {"tls": {"ca": ca["cert"]}}))
    sites = {}
    for domain in ("pki.test", "dane.test"):
        sites[domain] = find(relay, "Delivery", domain, send_required(relay, domain))["site"]
    equal(sites, {"pki.test": "tls=requiretls,mx.pki.test", "dane.test": "tls=dane,mx.dane.test"})
    equal(deliver(relay, "pki.test")["site"], "mx.pki.test")
    for host in (pki, dane):
        equal([line for _, line in host.mx.commands if line.startswith("MAIL")][0].endswith(" REQUIRETLS"), True, str(host.mx.commands))
    equal([line for _, line in pki.mx.commands if line.startswith("MAIL")][1].endswith(" REQUIRETLS"), False)
    equal(pki.mx.connections, 2)


@test
def requiretls_waits_for_a_certificate_and_bounces_without_the_extension(t):
    """Also over a restart: it is in the record. Meanwhile other mail for the domain goes."""
    ca = certificate(t, "ca", ())
    unknown = Host(t, "mx.unknown.test", capabilities=REQUIRES)
    without = Host(t, "mx.without.test", certificate(t, "without", ("mx.without.test",), issuer=ca))
    dns = signed(t, {"unknown.test": ["@ MX 10 mx", "mx A " + unknown.address], "without.test": ["@ MX 10 mx", "mx A " + without.address]})
    relay = relay_by(t, dns, with_listener(t, {"tls": {"ca": ca["cert"]}}))
    id = send_required(relay, "unknown.test")
    check_deferred(find(relay, "TransientFailure", "unknown.test", id), None, "certificate-not-trusted", "self.signed")
    deliver(relay, "unknown.test")
    relay.stop()
    before = len(relay.events("TransientFailure", number=id))
    relay.start()
    until(lambda: len(relay.events("TransientFailure", number=id)) > before, relay.tally)
    equal(len(unknown.mx.messages), 1)
    bounce = find(relay, "Bounce", "without.test", send_required(relay, "without.test"))
    equal((bounce["response"]["enhanced_code"], bounce["response"]["content"]), ({"class": 5, "subject": 7, "detail": 30}, "REQUIRETLS support required"))
    equal(("MAIL" in without.mx.verbs(), bounce["verdict"]), (False, "soft"))


@test
def a_sender_may_not_care(t):
    """TLS-Required: No: what the domain demands is passed over for this message, also after a restart; others wait."""
    host = Host(t, "mx.optional.test", tls=None, script={"RCPT": [None, "451 4.2.1 later"]})
    dns = signed(t, {"optional.test": ["@ MX 10 mx", "mx A " + host.address, host.tlsa("3 1 1 " + "00" * 32)]})
    relay = relay_by(t, dns, {"queue": {"retry_initial": "3s", "retry_max": "3s"}})

    def send_optional():
        return relay.send("a@b.example", ["r@optional.test"], b"Subject: alarm\r\nTLS-Required: No\r\n\r\nfire\r\n")

    event = find(relay, "Delivery", "optional.test", send_optional())
    equal((event["site"], "tls_policy" in event), ("mx.optional.test", False))
    waits = relay.send("a@b.example", ["r@optional.test"], b"Subject: TLS-Required: No\r\n\r\nTLS-Required: No\r\n")
    check_deferred(find(relay, "TransientFailure", "optional.test", waits), "tlsa", "starttls-not-supported", "does not offer it")
    kept = send_optional()
    find(relay, "TransientFailure", "optional.test", kept)
    relay.stop()
    relay.start()
    find(relay, "Delivery", "optional.test", kept)
    equal(len(host.mx.messages), 2)


run_all()
