"""The receiving side, probed from a raw socket: what it offers, what it refuses and how, and what it does with hostile input."""
import functools
import random
import re
import socket
import time

import smtp
from fakemx import Cut
from harness import equal, free_address, free_port, need_ipv6, run_all, side_by_side, test, until
from mtas import without_envelope_headers
from relay import relay_and_mx

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"
ENVELOPE = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"


def greeted(relay, **options):
    client = relay.client(**options)
    client.hello()
    return client


def still_works(relay):
    """A fresh session is served as if nothing had been."""
    relay.send("still@works.example", "still@works.example", CONTENT)


@test
def ehlo_offers_the_extensions(t):
    relay, _ = relay_and_mx(t, {"limits": {"message_size": "1MiB", "recipients": 7}})
    with relay.client() as client:
        banner = client.expect(220)
        if not banner.text.startswith("relay.ringpost.example "):
            raise AssertionError("banner %r" % banner)
        reply = client.ask("EHLO probe.example", 250)
        equal(reply.lines[0].split()[0], "relay.ringpost.example")
        offered = {line.split()[0]: line.split()[1:] for line in reply.lines[1:]}
        equal({"PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "DSN", "SIZE", "LIMITS"} - set(offered), set())
        equal(offered["SIZE"], ["1048576"])
        if "RCPTMAX=7" not in offered["LIMITS"]:
            raise AssertionError("LIMITS %s" % offered["LIMITS"])
        if "STARTTLS" in offered or "AUTH" in offered:
            raise AssertionError("offers what it cannot do: %s" % sorted(offered))
        reply = client.ask("HELO probe.example", 250)
        equal(len(reply.lines), 1)
        client.quit()


@test
def commands_out_of_order_are_refused(t):
    relay, _ = relay_and_mx(t)
    with relay.client() as client:
        client.expect(220)
        for line in ("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA", "BDAT 0 LAST"):
            client.ask(line, 503)
        client.ask("EHLO probe.example", 250)
        for line in ("RCPT TO:<c@d.example>", "DATA"):
            client.ask(line, 503)
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("MAIL FROM:<a@b.example>", 503)
        client.ask("DATA", (503, 554))
        client.ask("RCPT TO:<c@d.example>", 250)
        client.ask("RSET", 250)
        client.ask("RCPT TO:<c@d.example>", 503)
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("EHLO again.example", 250)
        client.ask("RCPT TO:<c@d.example>", 503)
        client.quit()


@test
def syntax_errors_have_their_codes(t):
    relay, _ = relay_and_mx(t, {"limits": {"session_errors": 1000}})
    with greeted(relay) as client:
        for line, codes in (
            ("FROB", 500),
            ("", 500),
            ("MAIL FROM:a@b.example", 501),
            ("MAIL FROM:<a@b.example", 501),
            ("MAIL FROM:<a b@c.example>", 501),
            ("MAIL", 501),
            ("MAIL FROM:<a@b.example> FROB=1", 555),
            ("MAIL FROM:<a@b.example> SIZE=x", 501),
            ('MAIL FROM:<"a@b.example>', 501),
            ("MAIL FROM:<a@-b-.example>", 501),
            ("MAIL FROM:<%s@b.example>" % ("x" * 300), 501),
            ("MAIL FROM:<g\u00fcn@b.example>", 553),
            ("EHLO", 501),
            ("VRFY someone", 252),
            ("HELP", 214),
            ("NOOP anything", 250),
            ("EXPN list", (500, 502)),
            ("ETRN x", (500, 502)),
        ):
            client.ask(line, codes)
        client.ask("mail from:<a@b.example> size=10 body=8bitmime", 250)
        for line, codes in (
            ("RCPT TO:<>", 501),
            ("RCPT TO:c@d.example", 501),
            ("RCPT TO:<c@d..example>", 501),
            ("RCPT TO:<c@d.example> FROB", 555),
            ("RCPT TO:<@relay.example:c@d.example>", 250),
            ('rcpt to:<"quoted name"@d.example>', 250),
        ):
            client.ask(line, codes)
        client.ask("RSET", 250)
        client.quit()


@test
def bounces_have_an_empty_sender(t):
    relay, mx = relay_and_mx(t)
    relay.send("", "c@d.example", CONTENT)
    equal(mx.wait_recipients(1)[0].sender, "")
    relay.wait_outcomes(1)


@test
def oversize_by_declaration_and_by_stream(t):
    relay, mx = relay_and_mx(t, {"limits": {"message_size": "100KiB"}})
    with greeted(relay) as client:
        client.ask("MAIL FROM:<a@b.example> SIZE=102401", 552, "5.3.4")
        client.ask("MAIL FROM:<a@b.example> SIZE=102400", 250)
        client.ask("RSET", 250)
        reply = client.message("a@b.example", ["c@d.example"], b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 98 + b"\r\n") * 1100)
        equal((reply.code, reply.enhanced), (552, "5.3.4"))
        equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
        client.send(ENVELOPE + b"BDAT 200000\r\n" + b"z" * 199998 + b"\r\n")
        client.expect(250)
        client.expect(250)
        client.expect(552, "5.3.4")
        client.say("RSET")
        client.expect(250)
        client.quit()
    relay.wait_outcomes(1)
    equal(len(mx.messages), 1)


@test
def too_many_recipients_are_refused_one_by_one(t):
    relay, mx = relay_and_mx(t, {"limits": {"recipients": 5}})
    with greeted(relay) as client:
        client.ask("MAIL FROM:<a@b.example>", 250)
        for i in range(5):
            client.ask("RCPT TO:<r%d@d.example>" % i, 250)
        for i in range(3):
            client.ask("RCPT TO:<s%d@d.example>" % i, 452, "4.5.3")
        client.ask("DATA", 354)
        client.send(CONTENT + b".\r\n")
        client.expect(250)
        client.quit()
    relay.wait_outcomes(5)
    equal(sorted(mx.recipients), ["r%d@d.example" % i for i in range(5)])


@test
def a_list_longer_than_a_message_may_have_recipients(t):
    """Piped in one go, as clients do that do not count: what is too much is put off, and the rest of the list goes out with the next messages."""
    relay, mx = relay_and_mx(t)
    waiting = ["r%d@d.example" % i for i in range(2500)]
    with greeted(relay) as client:
        for _ in range(3):
            client.send("MAIL FROM:<a@b.example>\r\n" + "".join("RCPT TO:<%s>\r\n" % recipient for recipient in waiting) + "DATA\r\n")
            client.expect(250)
            waiting = [recipient for recipient in waiting if client.expect((250, 452)).code == 452]
            client.expect(354)
            client.send(CONTENT + b".\r\n")
            client.expect(250)
        client.quit()
    equal(waiting, [])
    relay.wait_outcomes(2500)
    equal(len(set(mx.recipients)), 2500)


@test
def relaying_is_for_relay_from_only(t):
    mine, other = free_address(), free_address()
    relay, mx = relay_and_mx(t, {"relay_from": [mine + "/32"]})
    with greeted(relay, source=other) as client:
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 550, "5.7.1")
        client.ask("DATA", (503, 554))
        client.quit()
    with greeted(relay, source=mine) as client:
        equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
        client.quit()
    relay.wait_outcomes(1)
    equal(len(mx.messages), 1)
    rejection = relay.wait_event("Rejection")
    equal((rejection["response"]["code"], rejection["recipient"], rejection["peer_address"]["addr"]), (550, "c@d.example", other))


@test
def smuggling_behind_bare_line_ends_is_refused(t):
    relay, mx = relay_and_mx(t, {"limits": {"session_errors": 1000}})
    smuggled = b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<victim@d.example>\r\nDATA\r\nSubject: smuggled\r\n\r\nboo\r\n.\r\n"
    for end in (b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r", b"\n.\r", b"\r\r\n.\n"):
        with greeted(relay) as client:
            client.send(ENVELOPE + b"DATA\r\n")
            client.expect(250)
            client.expect(250)
            client.expect(354)
            client.send(b"Subject: outer\r\n\r\nhi" + end + smuggled)
            reply = client.reply()
            if reply.code != 550 or reply.enhanced != "5.6.11":
                raise AssertionError("%r answered with %r" % (end, reply))
            client.ask("NOOP", 250)
            client.quit()
    for bare in (b"a\nb\r\n", b"a\rb\r\n", b"\n\r\n", b"a\r\r\n"):
        with greeted(relay) as client:
            equal(client.message("a@b.example", ["c@d.example"], b"Subject: x\r\n\r\n" + bare).enhanced, "5.6.11", repr(bare))
            client.quit()
    still_works(relay)
    relay.wait_outcomes(1)
    equal(mx.recipients, ["still@works.example"])


@test
def mail_loops_are_cut(t):
    relay, mx = relay_and_mx(t)
    hop = b"Received: from a.example by b.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    with greeted(relay) as client:
        equal(client.message("a@b.example", ["c@d.example"], hop * 20 + CONTENT).code, 250)
        reply = client.message("a@b.example", ["c@d.example"], hop * 200 + CONTENT)
        equal((reply.code, reply.enhanced), (554, "5.4.6"))
        client.quit()
    relay.wait_outcomes(1)
    equal(len(mx.messages), 1)


@test
def everything_in_one_write(t):
    relay, mx = relay_and_mx(t)
    message = ENVELOPE + b"DATA\r\n" + CONTENT + b".\r\n"
    refused = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<bad address>\r\nRSET\r\n"
    with relay.client() as client:
        client.send(b"EHLO one.example\r\n" + message + refused + message + b"NOOP\r\nQUIT\r\n")
        codes = [client.reply().code for _ in range(2 + 4 + 3 + 4 + 2)]
        equal(codes, [220, 250, 250, 250, 354, 250, 250, 501, 250, 250, 250, 354, 250, 250, 221])
        equal(client.closed(), b"")
    relay.wait_outcomes(2)
    equal([without_envelope_headers(m.content) for m in mx.messages], [CONTENT] * 2)


@test
def byte_by_byte(t):
    relay, mx = relay_and_mx(t)
    content = b"Subject: bytes\r\n\r\n.\r\n..\r\nx.\r\n\r\n"
    with relay.client() as client:
        for byte in b"EHLO one.example\r\n" + ENVELOPE + b"DATA\r\n" + smtp.stuff(content) + b".\r\nQUIT\r\n":
            client.send(bytes([byte]))
        equal([client.reply().code for _ in range(7)], [220, 250, 250, 250, 354, 250, 221])
    relay.wait_outcomes(1)
    equal(without_envelope_headers(mx.messages[0].content), content)


@test
def bdat_in_all_its_ways(t):
    relay, mx = relay_and_mx(t, {"delivery": {"messages_per_connection": 1000}})
    dots = b"Subject: dots\r\n\r\n.\r\n..two\r\n.three\r\n"
    with greeted(relay) as client:

        def begin():
            client.ask("MAIL FROM:<a@b.example>", 250)
            client.ask("RCPT TO:<c@d.example>", 250)

        begin()
        client.send(b"BDAT %d LAST\r\n" % len(CONTENT) + CONTENT)
        client.expect(250)
        for cut in range(len(dots)):  # chunks that end anywhere, within CRLF and before a dot too
            begin()
            client.send(b"BDAT %d\r\n" % cut + dots[:cut])
            client.expect(250)
            client.send(b"BDAT %d LAST\r\n" % (len(dots) - cut) + dots[cut:])
            client.expect(250)
        begin()
        client.send(b"BDAT %d\r\n" % len(CONTENT) + CONTENT + b"BDAT 0 LAST\r\n")
        client.expect(250)
        client.expect(250)
        begin()
        client.send(b"BDAT 5\r\nhelloRSET\r\n")
        client.expect(250)
        client.expect(250)
        client.send(b"BDAT 5 LAST\r\nhelloNOOP\r\n")  # without an envelope: refused, yet its octets are eaten
        client.expect(503)
        client.expect(250)
        begin()
        client.send(b"BDAT 3\r\nabc")
        client.expect(250)
        client.ask("DATA", 503)
        client.ask("MAIL FROM:<a@b.example>", 503)
        client.ask("RSET", 250)
        for bad in ("BDAT", "BDAT x", "BDAT -1", "BDAT 3 FIRST"):
            begin()
            client.ask(bad, 501)
            client.ask("RSET", 250)
        client.quit()
    relay.wait_outcomes(2 + len(dots))
    equal(sorted({without_envelope_headers(m.content) for m in mx.messages}), sorted({CONTENT, dots}))


@test
def huge_lines(t):
    relay, mx = relay_and_mx(t)
    with greeted(relay) as client:
        client.ask("NOOP " + "x" * 100000, 500)
        client.ask("NOOP", 250)
        client.ask("RCPT TO:<" + "y" * 5000 + "@d.example>", (500, 501, 503))
        long_line = b"Subject: long\r\n\r\n" + b"z" * 300000 + b"\r\n"
        equal(client.message("a@b.example", ["c@d.example"], long_line).code, 250)
        client.quit()
    relay.wait_outcomes(1)
    equal(without_envelope_headers(mx.messages[0].content), long_line)
    with greeted(relay) as client:  # a line that never ends is not kept, and not for ever listened to
        try:
            for _ in range(200):
                client.send(b"x" * 65536)
        except OSError:
            pass
    still_works(relay)
    relay.wait_outcomes(2)


@test
def garbage(t):
    relay, _ = relay_and_mx(t)
    chance = random.Random(20261124)
    pieces = [
        b"MAIL FROM:<",
        b">",
        b"\r\n",
        b"\n",
        b"\r",
        b"DATA\r\n",
        b"BDAT 99999999999999999999\r\n",
        b"BDAT 4294967296 LAST\r\n",
        b"RCPT TO:<a@b>\r\n",
        b"EHLO x\r\n",
        b"\0" * 9,
        b"\xff" * 50,
        b"AUTH PLAIN AAAA\r\n",
        b"STARTTLS\r\n",
        b"GET / HTTP/1.1\r\n",
        b".\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"SIZE=" + b"9" * 40,
        b"@[IPv6:::::]",
        b"QUIT",
    ]
    for _ in range(60):
        with relay.client() as client:
            try:
                for _ in range(chance.randint(1, 30)):
                    client.send(chance.choice(pieces) if chance.random() < 0.7 else chance.randbytes(chance.randint(1, 400)))
                if chance.random() < 0.5:
                    client.socket.shutdown(socket.SHUT_WR)
                    client.closed()
            except OSError:
                pass
    still_works(relay)
    relay.wait_outcomes(1)


@test
def a_session_with_too_many_errors_is_closed(t):
    relay, _ = relay_and_mx(t, {"limits": {"session_errors": 5}})
    with greeted(relay) as client:
        for _ in range(5):
            client.ask("FROB", 500)
        client.ask("FROB", 421)
        equal(client.closed(), b"")
    still_works(relay)
    relay.wait_outcomes(1)


@test
def a_silent_session_is_closed(t):
    relay, mx = relay_and_mx(t, {"limits": {"session_timeout": "700ms"}})
    for begin in (b"", b"EHLO x.example\r\n", b"EHLO x.example\r\n" + ENVELOPE, b"EHLO x.example\r\n" + ENVELOPE + b"DATA\r\nSubject: half\r\n"):
        with relay.client() as client:
            client.send(begin)
            rest = client.closed()
            if not re.search(rb"(^|\r\n)421 4\.4\.2 [^\r\n]*\r\n$", rest):
                raise AssertionError("after %r came %r" % (begin, rest[-300:]))
    still_works(relay)
    relay.wait_outcomes(1)
    equal(len(mx.messages), 1)


@test
def a_session_that_drips_is_closed(t):
    """A byte now and then does not keep it open, neither of a command nor of content; whole commands do."""
    relay, _ = relay_and_mx(t, {"limits": {"session_timeout": "700ms"}})
    for begin, drop in ((b"", b"N"), (b"EHLO x.example\r\n" + ENVELOPE + b"DATA\r\n", b"x")):
        with relay.client() as client:
            client.send(begin)
            started = time.monotonic()
            try:
                while time.monotonic() - started < 10:
                    client.send(drop)
                    time.sleep(0.1)
            except OSError:
                pass
            equal(time.monotonic() - started < 5, True, "closed in time after %r" % begin)
    with greeted(relay) as client:
        for _ in range(8):
            time.sleep(0.3)
            client.ask("NOOP", 250)
        client.quit()


@test
def a_message_that_drips_in_chunks_is_closed(t):
    """Each chunk is a whole command, and answered; the message never ends."""
    relay, _ = relay_and_mx(t, {"limits": {"session_timeout": "700ms"}})
    with greeted(relay) as client:
        client.send(ENVELOPE)
        client.expect(250)
        client.expect(250)
        started = time.monotonic()
        try:
            while time.monotonic() - started < 10:
                client.send(b"BDAT 1\r\nx")
                client.expect(250)
                time.sleep(0.1)
        except (OSError, AssertionError) as error:
            equal("421 4.4.2" in str(error) or isinstance(error, OSError), True, str(error))
        equal(0.6 < time.monotonic() - started < 5, True, "closed in time: %.1f s" % (time.monotonic() - started))
    until(lambda: relay.metrics()["ringpost_sessions_open"] == 0, "the session to end")


@test
def a_slow_line_has_the_time_it_takes(t):
    """Several times session_timeout, at a kilobyte a second; illegal content likewise, to its end."""
    relay, mx = relay_and_mx(t, {"limits": {"session_timeout": "700ms"}})
    for begin, code in ((b"Subject: slow\r\n\r\n", 250), (b"Subject: slow\r\n\r\nbare\nline feed\r\n", 550)):
        with greeted(relay) as client:
            client.send(ENVELOPE + b"DATA\r\n" + begin)
            for _ in range(25):
                client.send(b"x" * 98 + b"\r\n")
                time.sleep(0.1)
            client.send(b".\r\n")
            for wanted in (250, 250, 354, code):
                client.expect(wanted)
            client.quit()
    relay.wait_outcomes(1)
    equal(len(mx.messages), 1)


@test
def a_client_that_shuts_its_side_in_a_message_leaves_nothing(t):
    """At once, not when it times out: neither the session nor memory, of a short one and of one that is on disk in parts."""
    relay, _ = relay_and_mx(t)
    long = CONTENT + (b"y" * 98 + b"\r\n") * 50000
    for wire in (b"DATA\r\n" + CONTENT, b"DATA\r\n" + long, b"BDAT 9000000 LAST\r\n" + long, b"BDAT %d\r\n" % len(long) + long, b"DATA\r\nbare\n" + long):
        before = relay.metrics()["ringpost_body_bytes"]
        client = greeted(relay)
        client.send(ENVELOPE + wire)
        client.socket.shutdown(socket.SHUT_WR)
        started = time.monotonic()
        client.closed()
        equal(time.monotonic() - started < 20, True, "closed at once after %r" % wire[:20])
        until(lambda: relay.metrics()["ringpost_sessions_open"] == 0, "the session to end")
        until(lambda memory=before: relay.metrics()["ringpost_body_bytes"] <= memory, lambda: "the memory: %s" % relay.metrics()["ringpost_body_bytes"])
        client.close()
    equal(relay.metrics()["ringpost_spool_bytes_total"] > 2 * len(long), True, "spool bytes %s" % relay.metrics()["ringpost_spool_bytes_total"])
    equal(relay.tally(), {})


@test
def no_more_sessions_than_allowed(t):
    """Exactly so many, though the kernel deals them out to the shards unevenly."""
    relay, _ = relay_and_mx(t, {"limits": {"sessions": 10}, "shards": 3})
    clients = [greeted(relay) for _ in range(10)]
    for _ in range(5):
        with relay.client() as eleventh:
            eleventh.expect(421)
            equal(eleventh.closed(), b"")
    clients.pop().quit()

    def admitted():
        with relay.client() as client:
            return client.reply().code == 220

    until(admitted, "a place after one had left")
    for client in clients:
        equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
        client.quit()
    relay.wait_outcomes(9)
    until(lambda: relay.metrics()["ringpost_sessions_open"] == 0, "all to have left")
    clients = [greeted(relay) for _ in range(10)]
    for client in clients:
        client.quit()


@test
def smtputf8_only_with_its_parameter(t):
    relay, mx = relay_and_mx(t)
    with greeted(relay) as client:
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<gr\u00fc\u00df@d.example>", 553)
        client.ask("RSET", 250)
        equal(client.message("p\u00e4ul@b.example", ["gr\u00fc\u00df@d.example"], CONTENT, "SMTPUTF8 BODY=8BITMIME").code, 250)
        client.quit()
    relay.wait_outcomes(1)
    equal((mx.messages[0].sender, mx.messages[0].recipients), ("p\u00e4ul@b.example", ["gr\u00fc\u00df@d.example"]))
    equal("SMTPUTF8" in mx.messages[0].parameters.split(), True)


@test
def a_message_cut_off_is_no_message(t):
    relay, mx = relay_and_mx(t)
    for wire in (
        ENVELOPE,
        ENVELOPE + b"DATA\r\n",
        ENVELOPE + b"DATA\r\n" + CONTENT,
        ENVELOPE + b"DATA\r\n" + CONTENT + b".",
        ENVELOPE + b"DATA\r\n" + CONTENT + b".\r",
        ENVELOPE + b"BDAT 100 LAST\r\n" + CONTENT,
        ENVELOPE + b"BDAT %d\r\n" % len(CONTENT) + CONTENT,
    ):
        with greeted(relay) as client:
            client.send(wire)
            client.socket.shutdown(socket.SHUT_WR)
            client.closed()
    still_works(relay)
    relay.wait_outcomes(1)
    equal(mx.recipients, ["still@works.example"])
    equal(len(relay.events("Reception")), 1)


@test
def a_message_answered_is_delivered_though_the_client_left(t):
    relay, mx = relay_and_mx(t)
    with greeted(relay) as client:
        client.send(ENVELOPE + b"DATA\r\n" + CONTENT + b".\r\n")
        for code in (250, 250, 354, 250):
            client.expect(code)
    relay.wait_outcomes(1)
    equal(mx.recipients, ["c@d.example"])


@test
def the_received_header_tells_the_hop(t):
    relay, mx = relay_and_mx(t)
    source = free_address()
    with relay.client(source=source) as client:
        client.hello("teller.example")
        number = smtp.queue_id(client.message("a@b.example", ["c@d.example"], CONTENT))
        client.quit()
    relay.wait_outcomes(1)
    header = re.match(rb"Received: ((?:[^\r\n]+\r\n[ \t]+)*[^\r\n]+\r\n)(?![ \t])", mx.messages[0].content)
    if not header:
        raise AssertionError("no Received header at the top of %r" % mx.messages[0].content)
    text = re.sub(r"\s+", " ", header.group(1).decode())
    for part in ("from teller.example", "[%s]" % source, "by relay.ringpost.example", "with ESMTP", number):
        if part not in text:
            raise AssertionError("%r is not in %r" % (part, text))
    if not re.search(r"; (Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", text):
        raise AssertionError("no RFC 5322 date in %r" % text)
    equal(mx.messages[0].content[header.end() :], CONTENT)


@test
def many_sessions_at_once(t):
    relay, mx = relay_and_mx(t)

    def session(number):
        with greeted(relay) as client:
            for i in range(5):
                equal(client.message("s%d@b.example" % number, ["r%d.%d@d.example" % (number, i)], CONTENT).code, 250)
            client.quit()

    side_by_side([functools.partial(session, number) for number in range(100)])
    relay.wait_outcomes(500)
    equal(len(set(mx.recipients)), 500)


@test
def listens_on_ipv6(t):
    need_ipv6()
    port = free_port("::1")
    relay, mx = relay_and_mx(t, {"listeners": [{"address": "::1", "port": port}]})
    smtp.send_message("::1", port, "a@b.example", ["c@d.example"], CONTENT)
    relay.wait_outcomes(1)
    equal(len(mx.messages), 1)


@test
def relaying_over_ipv6_is_for_relay_from_too(t):
    need_ipv6()
    for networks, code in ((["::1"], 250), (["::/16"], 250), (["2001:db8::/32", "127.0.0.0/8"], 550), (["::/128"], 550)):
        port = free_port("::1")
        relay, mx = relay_and_mx(t, {"listeners": [{"address": "::", "port": port}], "relay_from": networks})
        with smtp.Client("::1", port) as client:
            client.hello()
            client.ask("MAIL FROM:<a@b.example>", 250)
            client.ask("RCPT TO:<c@d.example>", code)
            if code == 250:
                client.ask("DATA", 354)
                client.send(CONTENT + b".\r\n")
                client.expect(250)
            client.quit()
        if code == 250:
            relay.wait_outcomes(1)
            equal(relay.events("Reception")[0]["peer_address"]["addr"], "::1")
            equal(b"([IPv6:::1])" in mx.messages[0].content, True, mx.messages[0].content)
        else:
            equal(relay.wait_event("Rejection")["peer_address"]["addr"], "::1")


@test
def a_client_that_does_not_read_holds_up_nobody(t):
    relay, mx = relay_and_mx(t, {"limits": {"session_errors": 1000000, "session_timeout": "20s"}})
    deaf = relay.client()
    deaf.socket.setblocking(False)
    sent = 0
    try:
        while sent < 20_000_000:
            sent += deaf.socket.send(b"EHLO deaf.example\r\n" * 1000)
    except (BlockingIOError, ConnectionError):
        pass
    still_works(relay)
    relay.wait_outcomes(1)
    deaf.close()
    equal(len(mx.messages), 1)


@test
def a_peer_that_fails_is_no_concern_of_the_sender(t):
    relay, _ = relay_and_mx(t, script={"GREETING": lambda *_: Cut()})
    relay.send("a@b.example", "c@d.example", CONTENT)
    relay.wait_event("TransientFailure")


run_all()
