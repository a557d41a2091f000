"""DNS lists of clients: who is on one is refused, unless he is known; and lists that say nothing, or nonsense, hold nobody up."""
import base64
import signal
import socket
import ssl
import struct
import subprocess
import time

from certificates import certificate
from fakemx import FakeMx
from harness import equal, free_address, free_port, run_all, test, until
from nameservers import Delay, Nsd
from relay import Ringpost, binary, merge, route, yaml

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"
BALANCER = "127.7.7.7"
LISTED, UNLISTED, TRUSTED, GOOD = "198.51.100.7", "198.51.100.8", "203.0.113.9", "198.51.100.10"
LISTED6 = "2001:db8::7"
NAME, PASSWORD = "ann@example.org", "correct horse"
IN_USE = "is read again and in use"


def reverse(address):
    return ".".join(reversed(address.split(".")))


def nibbles(address):
    return ".".join(reversed(socket.inet_pton(socket.AF_INET6, address).hex()))


ZONES = {
    "bl.example": [
        "%s A 127.0.0.4" % reverse(LISTED),
        "%s A 127.0.0.2" % reverse(TRUSTED),
        "%s A 127.0.0.2" % reverse(GOOD),
        "%s A 127.0.0.3" % nibbles(LISTED6),
        "1.0.0.127 A 127.0.0.2",
        "5.1.168.192 A 127.0.0.2",
    ],
    "second.example": ["%s A 127.0.0.2" % reverse(LISTED), "%s A 127.0.0.2" % reverse(GOOD)],
    "good.example": ["%s A 127.0.10.2" % reverse(GOOD)],
    "slow.example": ["%s A 127.0.0.9" % reverse(LISTED)],
    "sold.example": ["* A 192.0.2.80"],
    "refusing.example": ["* A 127.255.255.254", "* A 127.0.0.2"],
    "broken.example": None,
}


def guarded(t, lists, listener=None, config=None, held=(), start=True):
    """A relay that takes mail from everywhere, for what it has a route; (relay, the exchanger behind it, its name server)."""
    address = free_address()
    mx = FakeMx(t, address, free_port(address))
    dns = Delay(t, Nsd(t, ZONES), held)
    relay = Ringpost(
        t,
        merge(
            {
                "relay_from": ["0.0.0.0/0", "::/0", "203.0.113.0/24"],
                "routes": [route("*", (mx.address, mx.port))],
                "dns": {"servers": [dns.where], "timeout": "10s"},
            },
            config or {},
        ),
        start=False,
    )
    relay.config["listeners"][0].update({"proxy_from": [BALANCER], "dns_lists": lists, **(listener or {})})
    t.write(relay.name + ".yaml", yaml(relay.config) + "\n")
    return relay.start() if start else relay, mx, dns


def behind(relay, address):
    client = relay.client(source=BALANCER)
    client.send("PROXY TCP%d %s %s 4711 25\r\n" % ((6, address, "2001:db8::1") if ":" in address else (4, address, "192.0.2.1")))
    return client


def try_from(relay, address):
    """The reply to RCPT."""
    with behind(relay, address) as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.say("RCPT TO:<c@d.example>")
        reply = client.reply()
        client.quit()
        return reply


def taken(relay, *addresses):
    for address in addresses:
        equal(try_from(relay, address).code, 250, address)


def refused(relay, address, text):
    reply = try_from(relay, address)
    equal((reply.code, reply.text), (550, "5.7.1 [%s] is listed by %s" % (address, text)))


def figures(relay):
    """Of DNS lists: (questions, listed, unanswered, refused recipients, sessions)."""
    metrics = relay.metrics()
    names = ("dns_list_questions", "dns_list_listed", "dns_list_unanswered", "dns_list_refused", "sessions_listed")
    return tuple(int(metrics["ringpost_%s_total" % name]) for name in names)


def wait_figures(relay, *expected):
    until(lambda: figures(relay) == expected, lambda: "%s; there are %s" % (expected, figures(relay)))


# ---- who is on a list, and who is not ----


@test
def who_is_listed_is_refused(t):
    relay, mx, dns = guarded(t, [{"zone": "bl.example"}])
    refused(relay, LISTED, "bl.example")
    refused(relay, LISTED6, "bl.example")
    taken(relay, UNLISTED, "2001:db8::8")
    with behind(relay, UNLISTED) as client:
        client.hello()
        equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
    relay.wait_outcomes(1)
    equal(len(mx.messages), 1)
    until(lambda: len(relay.events("Rejection")) == 2, "two Rejections")
    event = next(event for event in relay.events("Rejection") if event["peer_address"]["addr"] == LISTED)
    equal(event["dns_list"], {"name": "bl.example", "answer": "127.0.0.4"})
    equal((event["sender"], event["recipient"], event["queue"]), ("a@b.example", "c@d.example", "d.example"))
    equal(event["response"], {"code": 550, "enhanced_code": {"class": 5, "subject": 7, "detail": 1}, "content": "[%s] is listed by bl.example" % LISTED, "command": "RCPT"})
    wait_figures(relay, 5, 2, 0, 2, 2)
    if nibbles(LISTED6) + ".bl.example" not in dns.asked():
        raise AssertionError("asked were %s" % dns.asked())


@test
def the_answer_is_for_all_recipients_and_messages(t):
    relay, _, dns = guarded(t, [{"zone": "bl.example", "name": "lists.example", "text": "see https://lists.example/?ip=%a"}])
    with behind(relay, LISTED) as client:
        client.hello()
        for _ in range(2):
            client.ask("MAIL FROM:<a@b.example>", 250)
            for number in range(2):
                reply = client.ask("RCPT TO:<c%d@d.example>" % number, 550, "5.7.1")
                equal(reply.text, "5.7.1 [%s] is listed by lists.example; see https://lists.example/?ip=%s" % (LISTED, LISTED))
            client.ask("DATA", (503, 554))
            client.ask("RSET", 250)
        client.quit()
    until(lambda: len(relay.events("Rejection")) == 4, "four Rejections")
    equal({event["dns_list"]["name"] for event in relay.events("Rejection")}, {"lists.example"})
    equal(dns.asked("bl.example"), [reverse(LISTED) + ".bl.example"])  # once; and the key in a zone stays here
    equal(figures(relay), (1, 1, 0, 4, 1))


@test
def who_is_refused_makes_errors(t):
    relay, _, _ = guarded(t, [{"zone": "bl.example"}], config={"clients": {"errors": 3, "except": ["127.0.0.1"]}})
    with behind(relay, LISTED) as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        for number in range(4):
            client.ask("RCPT TO:<c%d@d.example>" % number, 550, "5.7.1")
        client.expect(421, "4.7.0")
        equal(client.closed(), b"")


@test
def only_some_answers_count(t):
    relay, _, _ = guarded(t, [{"zone": "bl.example", "answers": ["127.0.0.2", "127.0.0.5"]}])
    taken(relay, LISTED, LISTED6)
    refused(relay, GOOD, "bl.example")
    equal(figures(relay), (3, 1, 0, 1, 1))


@test
def weights_add_up(t):
    relay, _, _ = guarded(
        t,
        [{"zone": "bl.example", "weight": 2}, {"zone": "second.example", "weight": 3}, {"zone": "good.example", "weight": -4}],
        {"dns_lists_threshold": 4},
    )
    refused(relay, LISTED, "second.example")  # 2 + 3; the heavier one is named
    taken(relay, GOOD, LISTED6, UNLISTED)  # 2 + 3 - 4, 2, 0


@test
def one_list_alone_may_not_be_enough(t):
    relay, _, _ = guarded(t, [{"zone": "bl.example"}, {"zone": "second.example"}], {"dns_lists_threshold": 2})
    refused(relay, LISTED, "bl.example")
    taken(relay, LISTED6)


# ---- who is known ----


@test
def whom_the_relay_trusts_nobody_asks_about(t):
    relay, _, dns = guarded(t, [{"zone": "bl.example"}], config={"clients": {"except": ["198.51.100.10"]}})
    taken(relay, TRUSTED, GOOD)
    taken(relay, "127.0.0.1", "192.168.1.5", "10.0.0.1", "fd00::1")  # nor does a list know them
    with relay.client(source=BALANCER) as client:  # itself, in a health check
        client.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")
        client.hello()
        client.quit()
    equal(dns.asked(), [])
    equal(figures(relay), (0, 0, 0, 0, 0))


@test
def who_has_authenticated_is_not_refused(t):
    path = t.path("users")
    subprocess.run([binary(True), "ctl", "user", "--file", path, "add", NAME, "--password-stdin"], input=PASSWORD.encode(), check=True, timeout=60)
    relay, _, _ = guarded(t, [{"zone": "bl.example"}], {"auth": "optional", "auth_in_clear": True}, {"users": path, "relay_from": ["203.0.113.0/24"]})
    with behind(relay, LISTED) as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 550, "5.7.1")
        client.ask("RSET", 250)
        client.ask("AUTH PLAIN " + base64.b64encode(("\0%s\0%s" % (NAME, PASSWORD)).encode()).decode(), 235)
        equal(client.message(NAME, ["c@d.example"], CONTENT).code, 250)
        client.quit()
    equal(figures(relay)[3:], (1, 1))
    reply = try_from(relay, UNLISTED)
    equal((reply.code, reply.text), (550, "5.7.1 relaying denied"))


@test
def a_user_does_not_wait_for_lists(t):
    path = t.path("users")
    subprocess.run([binary(True), "ctl", "user", "--file", path, "add", NAME, "--password-stdin"], input=PASSWORD.encode(), check=True, timeout=60)
    relay, _, dns = guarded(
        t, [{"zone": "slow.example"}], {"auth": "required", "auth_in_clear": True, "dns_lists_timeout": "30s"}, {"users": path}, held=["slow.example"]
    )
    begun = time.monotonic()
    with behind(relay, LISTED) as client:
        client.hello()
        until(lambda: dns.asked("slow.example"), "the question")
        client.ask("AUTH PLAIN " + base64.b64encode(("\0%s\0%s" % (NAME, PASSWORD)).encode()).decode(), 235)
        equal(client.message(NAME, ["c@d.example"], CONTENT).code, 250)
        client.quit()
    if time.monotonic() - begun > 15:
        raise AssertionError("it took %.1f s" % (time.monotonic() - begun))


# ---- lists that are late, silent or out of order ----


@test
def the_answer_is_waited_for(t):
    """Behind MAIL; what comes before that is answered, and a whole pipelined message waits where it is."""
    relay, mx, dns = guarded(t, [{"zone": "slow.example"}], {"dns_lists_timeout": "30s"}, held=["slow.example"])
    with behind(relay, LISTED) as bad, behind(relay, UNLISTED) as good:
        for client in (bad, good):
            client.hello()
            client.ask("NOOP", 250)
            client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
            client.expect(250)
        until(lambda: len(dns.asked("slow.example")) == 2, "two questions")
        for client in (bad, good):
            client.socket.settimeout(0.3)
            try:
                raise AssertionError("an answer came: %r" % client.reply())
            except TimeoutError:
                client.socket.settimeout(20)
        dns.release()
        bad.expect(550, "5.7.1")
        bad.expect((503, 554))
        bad.quit()
        good.expect(250)
        good.expect(354)
        good.send(CONTENT + b".\r\nQUIT\r\n")
        good.expect(250)
        good.expect(221)
    relay.wait_outcomes(1)
    equal(len(mx.messages), 1)
    equal(figures(relay), (2, 1, 0, 1, 1))


@test
def behind_tls_too(t):
    """From the first byte, behind the balancer's header, and by STARTTLS: what is decided is sealed and leaves."""
    for mode in ("implicit", "starttls"):
        tls = {"certificates": [certificate(t, mode)]}
        relay, _, dns = guarded(t, [{"zone": "slow.example"}], {"tls": mode, "dns_lists_timeout": "30s"}, {"tls": tls}, held=["slow.example"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        clients = [behind(relay, LISTED), behind(relay, UNLISTED)]
        for client in clients:
            if mode == "starttls":
                client.hello()
                client.ask("STARTTLS", 220)
            client.socket = context.wrap_socket(client.socket)
            if mode == "implicit":
                client.expect(220)
            client.send(b"EHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nQUIT\r\n")
            client.expect(250)
            client.expect(250)
        until(lambda: len(dns.asked("slow.example")) == 2, "two questions")
        dns.release()
        for client, code in zip(clients, (550, 250)):
            client.expect(code)
            client.expect(221)
            client.close()


@test
def a_whole_message_in_one_piece(t):
    relay, _, dns = guarded(t, [{"zone": "slow.example"}], {"dns_lists_timeout": "30s"}, held=["slow.example"])
    whole = b"EHLO a.example\r\n" + b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT 100000\r\n" + b"\r\n" + b"x" * 99996 + b"\r\nBDAT 0 LAST\r\n"
    with behind(relay, UNLISTED) as client, behind(relay, LISTED) as bad:
        for one in (client, bad):
            one.expect(220)
            one.send(whole * 3 + b"QUIT\r\n")
            one.expect(250)
            one.expect(250)
        until(lambda: len(dns.asked("slow.example")) == 2, "two questions")
        dns.release()
        codes = [client.reply().code for _ in range(15 - 2)]
        equal(codes, [250, 250, 250] + [250, 250, 250, 250, 250] * 2)
        client.expect(221)
        codes = [bad.reply().code // 100 for _ in range(15 - 2)]
        equal(codes, [5, 5, 5] + [2, 2, 5, 5, 5] * 2)
        bad.expect(221)
    relay.wait_outcomes(3)


@test
def a_silent_list_has_nobody(t):
    relay, _, dns = guarded(t, [{"zone": "slow.example"}, {"zone": "bl.example"}], {"dns_lists_timeout": "700ms", "dns_lists_threshold": 1}, held=["slow.example"])
    begun = time.monotonic()
    refused(relay, LISTED, "bl.example")  # it is sure without the other
    early = time.monotonic() - begun
    equal(figures(relay), (2, 1, 0, 1, 1))
    taken(relay, UNLISTED)
    late = time.monotonic() - begun - early
    if early > 0.6 or not 0.6 < late < 10:
        raise AssertionError("after %.2f and %.2f s" % (early, late))
    equal(figures(relay), (4, 1, 1, 1, 1))
    equal(len(dns.asked("slow.example")), 2)


@test
def what_is_no_answer_counts_for_nothing(t):
    relay, _, _ = guarded(t, [{"zone": "sold.example"}, {"zone": "refusing.example"}, {"zone": "broken.example"}], {"dns_lists_timeout": "20s"})
    for address in (LISTED, UNLISTED, LISTED6):
        taken(relay, address)
    log = relay.log()
    for text in ("DNS list sold.example answers 192.0.2.80", "DNS list refusing.example answers 127."):
        equal(log.count(text), 1, text)  # not for each client, nor by each shard
    equal(figures(relay), (9, 0, 9, 0, 0))
    equal(relay.health()[0], 200)


@test
def a_late_banner_covers_the_question(t):
    relay, _, dns = guarded(t, [{"zone": "bl.example"}], config={"clients": {"greeting_delay": "500ms", "except": ["127.0.0.1"]}})
    with behind(relay, LISTED) as client:
        until(lambda: dns.asked("bl.example"), "the question before the banner")
        wait_figures(relay, 1, 1, 0, 0, 1)
        client.send(b"")
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 550, "5.7.1")


# ---- sessions that end, and the relay ----


@test
def a_client_that_does_not_wait(t):
    relay, _, dns = guarded(t, [{"zone": "slow.example"}, {"zone": "good.example", "weight": -1}], {"dns_lists_timeout": "30s"}, held=["slow.example"])
    envelope = b"EHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"
    for number in range(20):
        client = behind(relay, "198.51.101.%d" % number)
        client.expect(220)
        client.send(envelope)
        for _ in range(2):
            client.expect(250)
        if number % 2:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    half = behind(relay, UNLISTED)  # has nothing more to say, but wants its answers
    half.expect(220)
    half.send(envelope)
    half.socket.shutdown(socket.SHUT_WR)
    until(lambda: len(dns.asked("slow.example")) == 21, "all questions")
    until(lambda: relay.metrics()["ringpost_sessions_open"] <= 11, "those that were reset to go")
    dns.release()
    for _ in range(3):
        half.expect(250)
    equal(half.closed(), b"")
    half.close()
    until(lambda: relay.metrics()["ringpost_sessions_open"] == 0, "all to go")
    refused(relay, LISTED, "slow.example")


@test
def a_stop_does_not_wait_for_lists(t):
    relay, _, dns = guarded(t, [{"zone": "slow.example"}], {"dns_lists_timeout": "1s"}, held=["slow.example"])
    with behind(relay, UNLISTED) as gone:
        gone.hello()
    with behind(relay, "198.51.100.9") as client:
        client.hello()
        client.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n")
        client.expect(250)
        until(lambda: len(dns.asked("slow.example")) == 2, "two questions")
        begun = time.monotonic()
        relay.process.signal(signal.SIGTERM)
        client.expect(421)
        equal(client.closed(), b"")
    relay.process.wait(30)
    if time.monotonic() - begun > 15:
        raise AssertionError("it took %.1f s" % (time.monotonic() - begun))


@test
def a_silent_list_costs_others_nothing(t):
    """So many questions to one list are under way at most, in each of the two shards; those of clients that have gone count, too. Others wait, as long as they are there."""
    relay, _, dns = guarded(t, [{"zone": "slow.example"}, {"zone": "bl.example"}], {"dns_lists_timeout": "30s"}, {"shards": 2}, held=["slow.example"])
    for number in range(300):
        with behind(relay, "198.51.%d.%d" % (102 + number // 250, number % 250)) as client:
            client.expect(220)
    wait_figures(relay, 128 + 300, 0, 0, 0, 0)
    begun = time.monotonic()
    refused(relay, LISTED, "bl.example")
    if time.monotonic() - begun > 5:
        raise AssertionError("the other list had to wait %.1f s" % (time.monotonic() - begun))
    waiting = [behind(relay, "198.51.110.%d" % number) for number in range(100)]
    for client in waiting:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.say("RCPT TO:<c@d.example>")
    wait_figures(relay, 128 + 401, 1, 0, 1, 1)
    dns.release()
    for client in waiting:
        client.expect(250)
        client.quit()
    wait_figures(relay, 128 + 501, 1, 0, 1, 1)


@test
def a_reload_takes_them_anew(t):
    relay, _, dns = guarded(t, [{"zone": "slow.example"}], {"dns_lists_timeout": "30s"}, held=["slow.example"])

    def reload(lists):
        before = relay.log().count(IN_USE)
        relay.config["listeners"][0].pop("dns_lists", None)
        relay.config["listeners"][0].pop("dns_lists_timeout", None)
        if lists:
            relay.config["listeners"][0]["dns_lists"] = lists
        t.write(relay.name + ".yaml", yaml(relay.config) + "\n")
        relay.process.signal(signal.SIGHUP)
        until(lambda: relay.log().count(IN_USE) > before, lambda: relay.log()[-1500:])

    early, unsaid = behind(relay, LISTED), relay.client(source=BALANCER)
    early.hello()
    early.ask("MAIL FROM:<a@b.example>", 250)
    early.say("RCPT TO:<c@d.example>")
    until(lambda: dns.asked("slow.example"), "the question")
    reload([{"zone": "second.example"}])
    refused(relay, LISTED, "second.example")
    taken(relay, LISTED6)
    reload([{"zone": "bl.example"}])
    refused(relay, GOOD, "bl.example")
    reload(None)
    taken(relay, LISTED, GOOD)
    dns.release()
    early.expect(550, "5.7.1")  # as it began
    early.quit()
    unsaid.send("PROXY TCP4 %s 192.0.2.1 4711 25\r\n" % LISTED)  # likewise
    unsaid.hello()
    unsaid.ask("MAIL FROM:<a@b.example>", 250)
    equal(unsaid.ask("RCPT TO:<c@d.example>", 550).text, "5.7.1 [%s] is listed by slow.example" % LISTED)
    unsaid.quit()


run_all()
