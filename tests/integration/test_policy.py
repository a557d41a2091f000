"""What a client may do that nobody knows: how many sessions, how often, how many errors; who says whose connection it is; and who speaks too early."""
import email
import email.utils
import struct
import time

from fakemx import FakeMx
from harness import equal, free_address, free_port, run_all, test, until
from relay import Ringpost, route, yaml

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"
KNOWN = "127.9.9.9"  # may relay
STRANGER, OTHER = "127.7.7.7", "127.7.7.8"
V2 = b"\r\n\r\n\0\r\nQUIT\n"


def guarded(t, clients=None, **listener):
    address = free_address()
    mx = FakeMx(t, address, free_port(address))
    config = {"relay_from": ["127.9.0.0/16", "203.0.113.0/24", "2001:db8::/32"], "routes": [route("*", (mx.address, mx.port))]}
    if clients:
        config["clients"] = clients
    relay = Ringpost(t, config, start=False)
    relay.config["listeners"][0].update(listener)
    t.write(relay.name + ".yaml", yaml(relay.config) + "\n")
    return relay.start(), mx


def refused(relay, source, word):
    with relay.client(source=source) as client:
        reply = client.expect(421, "4.7.0")
        if word not in reply.text:
            raise AssertionError("%r without %r" % (reply, word))
        equal(client.closed(), b"")


# ---- limits ----


@test
def sessions_at_once(t):
    relay, _ = guarded(t, {"sessions": 3})
    held = [relay.client(source=STRANGER) for _ in range(3)]
    for client in held:
        client.hello()
    refused(relay, STRANGER, "sessions")
    with relay.client(source=OTHER) as other:
        other.hello()
    known = [relay.client(source=KNOWN) for _ in range(10)]
    for client in known:
        client.hello()
    held.pop().quit()

    def welcome():
        with relay.client(source=STRANGER) as client:
            return client.reply().code == 220

    until(welcome, "room for one more")
    for client in held + known:
        client.close()


@test
def connections_a_minute(t):
    relay, _ = guarded(t, {"connections": 5})
    for _ in range(5):
        with relay.client(source=STRANGER) as client:
            client.hello()
            client.quit()
    refused(relay, STRANGER, "connections")
    with relay.client(source=OTHER) as client:
        client.hello()


@test
def recipients_a_minute(t):
    """Of those who may relay, but are no exception."""
    relay, _ = guarded(t, {"recipients": 3, "messages": 2, "except": ["127.200.0.0/16"]})
    with relay.client(source=KNOWN) as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        for number in range(3):
            client.ask("RCPT TO:<c%d@d.example>" % number, 250)
        client.ask("RCPT TO:<more@d.example>", 450, "4.7.1")
        client.ask("RSET", 250)
    with relay.client(source=KNOWN) as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 450, "4.7.1")
        client.ask("RSET", 250)
        client.ask("MAIL FROM:<a@b.example>", 450, "4.7.1")


@test
def messages_a_minute(t):
    """Of whoever has to say who he is; nobody does, so nothing is taken, but every MAIL counts."""
    relay, _ = guarded(t, {"messages": 3, "errors": 0})
    with relay.client(source=STRANGER) as client:
        client.hello()
        for _ in range(3):
            client.ask("MAIL FROM:<a@b.example>", 250)
            client.ask("RSET", 250)
        client.ask("MAIL FROM:<a@b.example>", 450, "4.7.1")
    with relay.client(source=STRANGER) as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 450, "4.7.1")
    with relay.client(source=KNOWN) as client:
        client.hello()
        for _ in range(10):
            client.ask("MAIL FROM:<a@b.example>", 250)
            client.ask("RSET", 250)


@test
def errors_a_minute(t):
    relay, _ = guarded(t, {"errors": 6})
    with relay.client(source=STRANGER) as client:
        client.hello()
        for _ in range(4):
            client.ask("FROB", 500)
    with relay.client(source=STRANGER) as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 550)
        client.ask("RCPT TO:<d@d.example>", 550)
        reply = client.ask("RCPT TO:<e@d.example>", 550)
        reply = client.expect(421, "4.7.0")
        equal(client.closed(), b"")
        if "errors" not in reply.text:
            raise AssertionError("%r" % reply)
    refused(relay, STRANGER, "errors")
    with relay.client(source=OTHER) as client:
        client.hello()


@test
def errors_are_answered_late(t):
    relay, _ = guarded(t, {"error_delay": "400ms"})
    for source, late in ((STRANGER, True), (KNOWN, False)):
        with relay.client(source=source) as client:
            client.hello()
            client.ask("FROB", 500)
            client.ask("FROB", 500)
            begun = time.monotonic()
            client.ask("FROB", 500)
            one = time.monotonic() - begun
            client.send(b"FROB\r\nNOOP\r\nFROB\r\n")
            for code in (500, 250, 500):
                client.expect(code)
            two = time.monotonic() - begun - one
            equal((one > 0.35, two > 0.7), (late, late))
            client.quit()


@test
def a_late_answer_holds_nobody_else_up(t):
    relay, _ = guarded(t, {"error_delay": "60s", "errors": 0})
    slow = [relay.client(source=STRANGER) for _ in range(20)]
    for client in slow:
        client.hello()
        client.ask("FROB", 500)
        client.ask("FROB", 500)
        client.send(b"FROB\r\n" + b"NOOP\r\n" * 100)
    begun = time.monotonic()
    with relay.client(source=KNOWN) as client:
        client.hello()
        equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
    if time.monotonic() - begun > 5:
        raise AssertionError("it took %.1f s" % (time.monotonic() - begun))
    relay.wait_outcomes(1)
    for client in slow:
        client.close()


# ---- the banner ----


@test
def the_banner_comes_late(t):
    relay, _ = guarded(t, {"greeting_delay": "500ms"})
    begun = time.monotonic()
    with relay.client(source=STRANGER) as client:
        client.hello()
        if time.monotonic() - begun < 0.45:
            raise AssertionError("it came at once")
    with relay.client(source=STRANGER) as client:
        client.send(b"EHLO early.example\r\n")
        client.expect(421, "5.5.1")
        equal(client.closed(), b"")
    with relay.client(source=KNOWN) as client:
        client.send(b"EHLO early.example\r\n")  # whoever is known may
        client.expect(220)
        client.expect(250)


# ---- the PROXY protocol ----


def peers(relay, kind="Reception"):
    relay.wait_outcomes(1)
    return [event["peer_address"]["addr"] for event in relay.events(kind)]


def deliver_behind(relay, header):
    with relay.client(source=STRANGER) as client:
        client.send(header)
        client.hello()
        equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
        client.quit()


@test
def a_balancer_says_whose_it_is(t):
    relay, _ = guarded(t, proxy_from=["127.7.0.0/16"])
    deliver_behind(relay, b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 25\r\n")
    deliver_behind(relay, V2 + b"\x21\x21\0\x29" + bytes.fromhex("20010db8" + "00" * 11 + "07" + "20010db8" + "00" * 11 + "01") + b"\x12\x67\0\x19" + b"\x04\0\2ab")
    relay.wait_outcomes(2)
    equal(sorted(peers(relay)), ["2001:db8::7", "203.0.113.7"])
    with relay.client(source=STRANGER) as client:  # piece by piece, and more behind it
        for byte in b"PROXY TCP4 203.0.113.8 192.0.2.1 4712 25\r\nEHLO a.example\r\n":
            client.send(bytes([byte]))
        client.expect(220)
        client.expect(250)
    with relay.client(source=STRANGER) as client:  # of somebody who may not relay
        client.send(b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 25\r\n")
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 550, "5.7.1")
    until(lambda: relay.events("Rejection"), "the Rejection")
    equal(relay.events("Rejection")[0]["peer_address"]["addr"], "198.51.100.7")
    with relay.client(source=STRANGER) as client:  # a health check of its own
        client.send(V2 + b"\x20\0\0\0")
        client.hello()
        client.quit()


@test
def what_is_no_header_ends_it(t):
    relay, _ = guarded(t, proxy_from=["127.7.0.0/16"])
    for wrong in (b"EHLO a.example\r\n", b"PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n", V2 + b"\x21\x11\0\x04abcd", b"PROXY " + b"x" * 200, b"\r\n\r\n\r\n"):
        with relay.client(source=STRANGER) as client:
            client.send(wrong)
            equal(client.closed(), b"")
    with relay.client(source=KNOWN) as client:  # no balancer: nobody waits for a header
        client.hello()
        client.quit()


@test
def a_header_from_the_untrusted(t):
    """Who is no balancer cannot give himself another address."""
    relay, _ = guarded(t, proxy_from=["127.7.7.8"])
    for header in (b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 25\r\n", V2 + b"\x21\x11\0\x0c" + struct.pack("!4B4BHH", 203, 0, 113, 7, 192, 0, 2, 1, 4711, 25)):
        with relay.client(source=STRANGER) as client:
            client.send(header)
            client.expect(220)
            rest = client.closed() if header.startswith(b"PROXY") else b""
            if b"250" in rest:
                raise AssertionError("it went on: %r" % rest)
    with relay.client(source=STRANGER) as client:
        client.hello()
        client.ask("PROXY TCP4 203.0.113.7 192.0.2.1 4711 25", (421, 500, 502, 554))


@test
def limits_are_of_the_client_behind_the_balancer(t):
    relay, _ = guarded(t, {"sessions": 2}, proxy_from=["127.7.7.7"])

    def through(address):
        client = relay.client(source=STRANGER)
        client.send("PROXY TCP4 %s 192.0.2.1 4711 25\r\n" % address)
        return client

    held = [through("198.51.100.1") for _ in range(2)] + [through("198.51.100.2") for _ in range(2)]
    for client in held:
        client.hello()
    with through("198.51.100.1") as client:
        client.expect(421, "4.7.0")
    for client in held:
        client.close()


# ---- submission ----


@test
def what_is_missing_is_added(t):
    relay, mx = guarded(t, submission=True)
    cases = {
        b"Subject: a\r\n\r\nbody\r\n": (True, True),
        b"Subject: a\r\nDate: Thu, 26 Nov 2026 20:00:00 +0000\r\n\r\nDate: not here\r\n": (False, True),
        b"message-id: <a@b>\r\nSubject: a\r\n\r\nbody\r\n": (True, False),
        b"Message-ID: <a@b>\r\nDate: x\r\n\r\n": (False, False),
        b"Subject: no body\r\n": (True, True),
        b"Subject: long\r\n\r\n" + b"x" * 70 + b"\r\n" * 2000: (True, True),
    }
    for number, (content, added) in enumerate(cases.items()):
        with relay.client(source=KNOWN) as client:
            client.hello()
            if number % 2 == 0:
                equal(client.message("a@b.example", ["c@d.example"], content).code, 250)
            else:
                client.ask("MAIL FROM:<a@b.example>", 250)
                client.ask("RCPT TO:<c@d.example>", 250)
                for at in range(0, len(content), 7):
                    client.send(b"BDAT %d%s\r\n" % (len(content[at : at + 7]), b" LAST" if at + 7 >= len(content) else b"") + content[at : at + 7])
                    client.expect(250)
        relay.wait_outcomes(number + 1)
        got = mx.messages[-1].content
        head, _, body = got.partition(b"\r\n\r\n")
        own_head, _, own_body = content.partition(b"\r\n\r\n")
        if body.rstrip() != own_body.rstrip() or own_head.rstrip() not in head:
            raise AssertionError("%r became %r" % (content[:200], got[:600]))
        found = email.message_from_bytes(got)
        equal((len(found.get_all("Date")), len(found.get_all("Message-ID"))), (1, 1))
        is_ours = (email.utils.parsedate_to_datetime(found["Date"]).year >= 2026 if added[0] else True, "relay.ringpost.example>" in found["Message-ID"])
        equal(is_ours, (True, added[1]))


@test
def elsewhere_nothing_is_added(t):
    relay, mx = guarded(t)
    with relay.client(source=KNOWN) as client:
        client.hello()
        equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
    relay.wait_outcomes(1)
    found = email.message_from_bytes(mx.messages[-1].content)
    equal((found["Date"], found["Message-ID"]), (None, None))


run_all()
