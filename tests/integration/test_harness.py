"""The harness itself: a judge that does not see what it should see proves nothing."""
import time

import smtp
from fakemx import Cut, Drip, FakeMx, Raw, Silence
from harness import equal, free_address, free_port, run_all, test
from nameservers import RCODE_NXDOMAIN, RCODE_SERVFAIL, TYPE_MX, Nsd, Resolver, ask
from relay import check_event, check_events, yaml


def fake(t, **options):
    address = free_address()
    return FakeMx(t, address, free_port(address), lawful=False, **options)


def greeted(mx):
    client = smtp.Client(mx.address, mx.port)
    client.hello()
    return client


@test
def fake_mx_takes_messages_however_they_are_cut(t):
    mx = fake(t)
    sent = b"a: b\r\n\r\n..two dots\r\n.\r\n"
    wire = smtp.stuff(sent) + b".\r\nQUIT\r\n"
    for cut in range(1, len(wire)):
        with greeted(mx) as client:
            for line in ("MAIL FROM:<>", "RCPT TO:<x@y.example>"):
                client.ask(line, 250)
            client.ask("DATA", 354)
            client.send(wire[:cut])
            client.send(wire[cut:])
            client.expect(250)
            client.expect(221)
        equal(mx.messages[-1].content, sent)
    equal(mx.violations, [])
    equal(mx.gauge.now, 0)


@test
def fake_mx_sees_what_clients_do_wrong(t):
    def violation(part, lines, capabilities=("PIPELINING",)):
        mx = fake(t, capabilities=capabilities)
        with greeted(mx) as client:
            client.send(lines)
            client.closed()
        if not any(part in found for found in mx.violations):
            raise AssertionError("no violation %r seen but %s" % (part, mx.violations))

    begin = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
    violation("without CR", b"NOOP\nQUIT\r\n")
    violation("pipelines", begin + b"QUIT\r\n", capabilities=())
    violation("without waiting", begin + b"DATA\r\nx: y\r\n\r\n.\r\nQUIT\r\n")
    violation("not offered", b"MAIL FROM:<a@b.example> SIZE=3\r\nQUIT\r\n")
    violation("not offered", b"MAIL FROM:<a@b.example> SMTPUTF8\r\nQUIT\r\n")
    violation("BDAT", begin + b"BDAT 3 LAST\r\nx\r\nQUIT\r\n")
    violation("RCPTMAX", begin + b"RCPT TO:<e@f.example>\r\nQUIT\r\n", capabilities=("PIPELINING", "LIMITS MAILMAX=3 RCPTMAX=1"))
    violation("bare", begin + b"BDAT 3 LAST\r\na\nbQUIT\r\n", capabilities=("PIPELINING", "CHUNKING"))
    violation("8-bit", begin + b"BDAT 4 LAST\r\n\xc3\xa4\r\nQUIT\r\n", capabilities=("PIPELINING", "CHUNKING"))


@test
def fake_mx_follows_its_script(t):
    mx = fake(
        t,
        script={
            "RCPT": ["451 4.2.1 later", None, lambda *_: None],
            "NOOP": [Drip("250 slow"), Raw(b"250 one\r\n250 two\r\n"), Cut("25", reset=False)],
        },
    )
    with greeted(mx) as client:
        client.ask("MAIL FROM:<>", 250)
        client.ask("RCPT TO:<x@y.example>", 451)
        client.ask("RCPT TO:<x@y.example>", 250)
        client.ask("NOOP", 250)
        client.ask("NOOP", 250)
        equal(client.reply().lines, ["two"])
        client.say("NOOP")
        equal(client.closed(), b"25")
    mx = fake(t, script={"GREETING": Silence()})
    with smtp.Client(mx.address, mx.port, timeout_s=0.2) as client:
        try:
            client.reply()
        except TimeoutError:
            pass
        else:
            raise AssertionError("a reply where silence was scripted")


@test
def fake_mx_counts_connections(t):
    mx = fake(t)
    first, second = greeted(mx), greeted(mx)
    first.quit()
    second.close()
    with greeted(mx):
        pass
    equal((mx.connections, mx.gauge.most), (3, 2))


@test
def name_servers_answer(t):
    dns = Resolver(t, {"example": ["one MX 10 mx.one", "mx.one A 127.3.2.1"], "broken": None})
    equal(ask(dns.address, dns.port, "one.example", TYPE_MX)[:2], (0, 1))
    equal(ask(dns.address, dns.port, "nothing.example")[0], RCODE_NXDOMAIN)
    equal(ask(dns.address, dns.port, "a.broken")[0], RCODE_SERVFAIL)


@test
def truncated_answers_of_nsd_say_so(t):
    nsd = Nsd(t, {"example": ["big MX %d %s" % (i, "-".join("%02d" % i for _ in range(20))) for i in range(16)]})
    equal(ask(nsd.address, nsd.port, "big.example", TYPE_MX)[2], True)


@test
def event_contract_is_checked(t):
    del t
    now = time.time()
    reception = {
        "type": "Reception",
        "id": "0" * 16,
        "sender": "a@b.example",
        "recipient": ["c@d.example", "e@d.example"],
        "size": 5,
        "timestamp": now,
        "session_id": "1" * 16,
        "peer_address": {"addr": "127.0.0.1"},
    }
    delivery = {
        "type": "Delivery",
        "id": "0" * 16,
        "sender": "a@b.example",
        "recipient": "c@d.example",
        "queue": "d.example",
        "site": "mx",
        "size": 5,
        "created": now,
        "timestamp": now,
        "num_attempts": 1,
        "peer_address": {"name": "mx", "addr": "127.0.0.1"},
        "source_address": "127.0.0.1",
        "response": {"code": 250, "content": "ok", "command": "end of DATA", "enhanced_code": {"class": 2, "subject": 0, "detail": 0}},
    }
    bounce = {**delivery, "type": "Bounce", "recipient": "e@d.example", "verdict": "hard", "category": "x", "rule": "y", "response": {"code": 550}}
    check_events([reception, delivery, bounce], finished=True)
    for wrong in (
        [reception, reception],
        [delivery],
        [reception, delivery, delivery],
        [reception, {**bounce, "verdict": "maybe"}],
        [reception, {**bounce, "response": {"code": 450}}],
        [{**reception, "id": "12"}],
        [{**reception, "type": "Birth"}],
    ):
        try:
            check_events(wrong)
        except AssertionError:
            continue
        raise AssertionError("passed: %s" % wrong)
    try:
        check_events([reception, delivery], finished=True)
    except AssertionError:
        pass
    else:
        raise AssertionError("a recipient without an end passed")
    equal(check_event({**delivery, "num_attempts": 0}), "site, peer_address or num_attempts")


@test
def yaml_is_written_as_it_should(t):
    del t
    equal(
        yaml({"a": 1, "b": {"c": "x y", "d": ["e"]}, "f": [{"g": "*"}], "h": True}), 'a: 1\nb:\n  c: "x y"\n  d: ["e"]\nf:\n  - {"g": "*"}\nh: true'
    )


run_all()
