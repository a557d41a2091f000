"""What somebody tries who is nobody here: to relay through us, to smuggle a second message, to write into headers, to use more than a share."""
import socket
import time

from fakemx import FakeMx
from harness import equal, free_address, free_port, run_all, test, until
from relay import Ringpost, route, yaml

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"
KNOWN, STRANGER = "127.9.9.9", "127.7.7.7"


def relay_for_the_known(t, config=None, **listener):
    address = free_address()
    mx = FakeMx(t, address, free_port(address))
    relay = Ringpost(t, {"relay_from": ["127.9.0.0/16"], "clients": {"errors": 0}, "routes": [route("*", (mx.address, mx.port))], **(config or {})}, start=False)
    relay.config["listeners"][0].update(listener)
    t.write(relay.name + ".yaml", yaml(relay.config) + "\n")
    return relay.start(), mx


@test
def nobody_relays(t):
    """However the address is written: there is no domain that this relay is the end of."""
    relay, mx = relay_for_the_known(t)
    literal = "[%s]" % relay.address
    attempts = [
        "victim@elsewhere.example",
        "victim%elsewhere.example@relay.ringpost.example",
        "victim%elsewhere.example@localhost",
        "victim%elsewhere.example@" + literal,
        '"victim@elsewhere.example"@relay.ringpost.example',
        '"victim%elsewhere.example"',
        "@relay.ringpost.example:victim@elsewhere.example",
        "@a.example,@b.example:victim@elsewhere.example",
        "elsewhere.example!victim@relay.ringpost.example",
        "elsewhere.example!victim",
        "victim@" + literal,
        "victim@[127.0.0.1]",
        "victim@[IPv6:::1]",
        "victim@relay.ringpost.example",
        "victim@localhost",
        "postmaster@elsewhere.example",
        "postmaster",
        "victim@elsewhere.example@relay.ringpost.example",
        "victim@elsewhere.example.",
        "victim@ELSEWHERE.example ",
    ]
    for sender in ("a@b.example", "", "root@relay.ringpost.example", "root@" + literal, "victim@elsewhere.example"):
        with relay.client(source=STRANGER, timeout_s=20) as client:
            client.hello("relay.ringpost.example")
            client.say("MAIL FROM:<%s>" % sender)
            if client.reply().code != 250:
                continue
            for attempt in attempts[:15]:
                client.say("RCPT TO:<%s>" % attempt)
                reply = client.reply()
                if reply.code // 100 != 5:
                    raise AssertionError("%s for %s: %r" % (sender, attempt, reply))
            client.ask("DATA", (503, 554))
    for attempt in attempts[15:]:
        with relay.client(source=STRANGER) as client:
            client.hello()
            client.ask("MAIL FROM:<a@b.example>", 250)
            client.say("RCPT TO:<%s>" % attempt)
            equal(client.reply().code // 100, 5, attempt)
    equal(mx.messages, [])


@test
def nothing_is_smuggled(t):
    """Of all that looks like the end of the data only CRLF.CRLF is; the rest is refused, and what stood behind it is never obeyed."""
    relay, mx = relay_for_the_known(t)
    behind = b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<victim@d.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
    for end in (b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\r\n.\r\r\n", b"\n\n.\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n"):
        with relay.client(source=KNOWN) as client:
            client.hello()
            client.ask("MAIL FROM:<a@b.example>", 250)
            client.ask("RCPT TO:<c@d.example>", 250)
            client.ask("DATA", 354)
            client.send(b"Subject: one\r\n\r\nhello" + end + behind)
            client.reply()
            client.quit()
    time.sleep(0.5)
    for message in mx.messages:
        if message.sender == "evil@b.example" or b"victim@d.example" in [recipient.encode() for recipient in message.recipients]:
            raise AssertionError("smuggled: %s" % message)


@test
def no_line_ends_up_in_a_header(t):
    """Neither of EHLO nor of an address nor of a parameter."""
    relay, mx = relay_for_the_known(t)
    for line in (
        b"EHLO a\rX-Evil: 1",
        b"EHLO a\nX-Evil: 1",
        b"EHLO a\0b",
        b"EHLO (X-Evil",
        b"MAIL FROM:<a\rX-Evil: 1@b.example>",
        b"MAIL FROM:<a\nX-Evil: 1@b.example>",
        b'MAIL FROM:<"a\rb"@b.example>',
        b"MAIL FROM:<a@b.example> ENVID=a\rb",
        b"MAIL FROM:<a@b.example> ENVID=a+0",
        b"MAIL FROM:<a@b.example> AUTH=<\n>",
    ):
        with relay.client(source=KNOWN) as client:
            client.expect(220)
            if line.startswith(b"MAIL"):
                client.ask("EHLO probe.example", 250)
            client.send(line + b"\r\n")
            reply = client.reply()
            if reply.code // 100 == 2:
                raise AssertionError("%r was taken: %r" % (line, reply))
    for line in (b"RCPT TO:<c@d.example> ORCPT=rfc822;a\rX-Evil", b"RCPT TO:<c\n@d.example>", b"RCPT TO:<c@d\r.example>"):
        with relay.client(source=KNOWN) as client:
            client.hello()
            client.ask("MAIL FROM:<a@b.example>", 250)
            client.send(line + b"\r\n")
            equal(client.reply().code // 100, 5)
    with relay.client(source=KNOWN) as client:
        client.hello()
        equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
    relay.wait_outcomes(1)
    head = mx.messages[0].content.partition(b"\r\n\r\n")[0]
    if b"Evil" in head:
        raise AssertionError("%r" % head)


@test
def large_things_have_an_end(t):
    relay, _ = relay_for_the_known(t, {"limits": {"message_size": "64KiB", "recipients": 10}})
    for line in (b"EHLO " + b"a" * 5000, b"MAIL FROM:<" + b"a" * 5000 + b"@b.example>", b"NOOP " + b"x" * 1000000, b"x" * 1000000):
        with relay.client(source=STRANGER) as client:
            client.hello()
            try:
                client.send(line + b"\r\n")
                equal(client.reply().code in (421, 500, 501, 552, 553), True)
            except (ConnectionError, AssertionError) as error:
                if "closed" not in str(error) and not isinstance(error, ConnectionError):
                    raise
    with relay.client(source=KNOWN) as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example> SIZE=70000", 552)
        client.ask("MAIL FROM:<a@b.example>", 250)
        for number in range(10):
            client.ask("RCPT TO:<c%d@d.example>" % number, 250)
        client.ask("RCPT TO:<more@d.example>", 452)
        client.ask("DATA", 354)
        client.send(b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 2000 + b".\r\n")
        client.expect(552)


@test
def the_slow_hold_nobody_up(t):
    """Two hundred that say a byte now and then; somebody else is served as ever."""
    relay, _ = relay_for_the_known(t, {"limits": {"session_timeout": "3s"}, "clients": {"sessions": 0, "errors": 0}})
    slow = [socket.create_connection((relay.address, relay.port), 20, (STRANGER, 0)) for _ in range(200)]
    took = []
    begun = time.monotonic()
    while time.monotonic() - begun < 2:
        for one in slow:
            try:
                one.send(b"E")
            except OSError:
                pass
        sent = time.monotonic()
        with relay.client(source=KNOWN) as client:
            client.hello()
            equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
            client.quit()
        took.append(time.monotonic() - sent)
    if sorted(took)[len(took) // 2] > 0.5:
        raise AssertionError("%s" % took)
    until(lambda: relay.metrics()["ringpost_sessions_open"] == 0, "the slow to be shown out", timeout_s=20)
    for one in slow:
        one.close()
    relay.wait_outcomes(len(took))


@test
def names_cannot_leave_their_directories(t):
    """Paths of the configuration are the operator's own; what comes from outside is never part of one."""
    relay, _ = relay_for_the_known(t)
    with relay.client(source=KNOWN) as client:
        client.expect(220)
        client.ask("EHLO ../../etc/passwd", 501)
        client.ask("EHLO client.example", 250)
        equal(client.message('"../../x"@b.example', ['"../../y"@d.example'], CONTENT).code, 250)
    relay.wait_outcomes(1)


run_all()
