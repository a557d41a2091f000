"""AUTH as clients use it: who may, who may not, what a user may do, and what happens to who guesses."""
import base64
import hashlib
import hmac
import os
import smtplib
import time

from fakemx import FakeMx
from harness import equal, free_address, free_port, run_all, test, until
from relay import Ringpost, add_user, change_user, route, yaml

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"
STRANGER, OTHER = "127.7.7.7", "127.7.7.8"
NAME, PASSWORD = "ann@example.org", "correct horse"


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def plain(name=NAME, password=PASSWORD, authzid=""):
    return b64("%s\0%s\0%s" % (authzid, name, password))


def with_users(t, users=((NAME, PASSWORD, []),), **listener):
    address = free_address()
    mx = FakeMx(t, address, free_port(address))
    path = t.path("users")
    for name, password, options in users:
        add_user(path, name, password, *options)
    config = {"relay_from": ["127.9.0.0/16"], "users": path, "routes": [route("*", (mx.address, mx.port))], "clients": {"errors": 0}}
    relay = Ringpost(t, config, start=False)
    relay.config["listeners"][0].update({"auth": "optional", "auth_in_clear": True, **listener})
    t.write(relay.name + ".yaml", yaml(relay.config) + "\n")
    relay.users_path = path
    return relay.start(), mx


def session(relay, source=STRANGER):
    client = relay.client(source=source)
    client.hello()
    return client


def scram(client, name, password, nonce="clientnonce0123456789"):
    """RFC 5802, written from the specification. Returns the last reply, and whether the server has shown that it knows the keys."""
    bare = "n=%s,r=%s" % (name.replace("=", "=3D").replace(",", "=2C"), nonce)
    reply = client.ask("AUTH SCRAM-SHA-256 " + b64("n,," + bare), 334)
    first = base64.b64decode(reply.text).decode()
    fields = dict(part.split("=", 1) for part in first.split(","))
    if not fields["r"].startswith(nonce) or len(fields["r"]) < len(nonce) + 16:
        raise AssertionError("nonce %r" % first)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))

    def mac(key, text):
        return hmac.new(key, text, "sha256").digest()

    client_key, server_key = mac(salted, b"Client Key"), mac(salted, b"Server Key")
    without_proof = "c=%s,r=%s" % (b64("n,,"), fields["r"])
    message = ",".join((bare, first, without_proof)).encode()
    proof = bytes(a ^ b for a, b in zip(client_key, mac(hashlib.sha256(client_key).digest(), message)))
    client.say(b64(without_proof + ",p=" + b64(proof)))
    reply = client.reply()
    if reply.code != 334:
        return reply, False
    shown = base64.b64decode(reply.text).decode() == "v=" + b64(mac(server_key, message))
    client.say("")
    return client.reply(), shown


# ---- who may ----


@test
def a_user_may_relay(t):
    relay, mx = with_users(t)
    with session(relay) as client:
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 550, "5.7.1")
        client.ask("RSET", 250)
        client.ask("AUTH PLAIN " + plain(), 235, "2.7.0")
        equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
        client.ask("AUTH PLAIN " + plain(), 503)
        client.quit()
    with session(relay) as client:
        client.ask("AUTH PLAIN", 334)
        client.ask(plain(), 235)
    with session(relay) as client:
        client.ask("AUTH LOGIN", 334)
        client.ask(b64(NAME), 334)
        client.ask(b64(PASSWORD), 235)
    with session(relay) as client:
        client.ask("auth login " + b64(NAME), 334)
        client.ask(b64(PASSWORD), 235)
    with session(relay) as client:
        reply, shown = scram(client, NAME, PASSWORD)
        equal((reply.code, shown), (235, True))
        equal(client.message("a@b.example", ["e@d.example"], CONTENT).code, 250)
    relay.wait_outcomes(2)
    equal(len(mx.messages), 2)
    equal(relay.metrics()["ringpost_sessions_authenticated_total"], 5)


@test
def smtplib_logs_in(t):
    relay, _ = with_users(t)
    for method in ("AUTH PLAIN", "AUTH LOGIN"):
        client = smtplib.SMTP(relay.address, relay.port, timeout=20, source_address=(STRANGER, 0))
        client.ehlo()
        client.esmtp_features["auth"] = method.split()[1]
        client.login(NAME, PASSWORD)
        client.sendmail("a@b.example", ["c@d.example"], CONTENT)
        client.quit()
    relay.wait_outcomes(2)


@test
def who_is_wrong_may_not(t):
    relay, _ = with_users(t, [(NAME, PASSWORD, []), ("off", "x", ["--disable"]), ("scramless", "y", ["--no-scram"])])
    wrong = [plain(password="wrong"), plain(name="nobody"), plain("off", "x"), plain(authzid="somebody"), plain(password="")]
    for number, response in enumerate(wrong):
        with session(relay, "127.7.8.%d" % (number + 1)) as client:
            client.ask("AUTH PLAIN " + response, (535, 501))
            client.ask("MAIL FROM:<a@b.example>", 250)
            client.ask("RCPT TO:<c@d.example>", 550)
    for number, (name, password) in enumerate(((NAME, "wrong"), ("nobody", "x"), ("off", "x"), ("scramless", "y"))):
        with session(relay, "127.7.9.%d" % (number + 1)) as client:
            equal(scram(client, name, password)[0].code, 535)
    for line, code in (("AUTH PLAIN *", 501), ("AUTH PLAIN !!!", 501), ("AUTH CRAM-MD5", 504), ("AUTH PLAIN =", 501), ("AUTH", 501)):
        with session(relay) as client:
            client.ask(line, code)
    with session(relay) as client:
        client.ask("AUTH LOGIN", 334)
        client.ask("*", 501, "5.7.0")
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("AUTH PLAIN " + plain(), 503)


@test
def nobody_can_tell_who_is_there(t):
    """The same words, and the same time, for a name that is none as for a wrong password; and SCRAM has a salt for all, always the same one."""
    relay, _ = with_users(t)
    seen = {}
    for name in (NAME, "nobody"):
        times = []
        for number in range(3):
            with session(relay, "127.8.%d.%d" % (len(seen) + 1, number + 1)) as client:
                begun = time.monotonic()
                reply = client.ask("AUTH PLAIN " + plain(name, "wrong"), 535)
                times.append(time.monotonic() - begun)
        seen[name] = (repr(reply), min(times))
    equal(seen[NAME][0], seen["nobody"][0])
    if not 0.2 < seen[NAME][1] / seen["nobody"][1] < 5:
        raise AssertionError("%s" % seen)
    salts = []
    for _ in range(2):
        with session(relay) as client:
            reply = client.ask("AUTH SCRAM-SHA-256 " + b64("n,,n=nobody,r=abcdefghijklmnop"), 334)
            salts.append(base64.b64decode(reply.text).decode().split(",")[1])
    equal(salts[0], salts[1])


@test
def auth_may_be_required(t):
    relay, _ = with_users(t, auth="required")
    for source in (STRANGER, "127.9.9.9"):
        with session(relay, source) as client:
            client.ask("MAIL FROM:<a@b.example>", 530, "5.7.0")
            client.ask("AUTH PLAIN " + plain(), 235)
            client.ask("MAIL FROM:<a@b.example>", 250)


@test
def no_passwords_without_tls(t):
    """Nothing is offered where it would travel in the clear."""
    relay, _ = with_users(t, auth="off", auth_in_clear=False)
    with relay.client(source=STRANGER) as client:
        if "AUTH" in client.hello().text:
            raise AssertionError("AUTH is offered")
        client.ask("AUTH PLAIN " + plain(), (502, 503, 538))


# ---- what a user may do ----


@test
def senders_recipients_and_rates(t):
    relay, _ = with_users(
        t,
        [
            (NAME, PASSWORD, ["--senders", "@example.org,news@example.net", "--recipients", "2"]),
            ("bob", PASSWORD, ["--per-minute", "3"]),
            ("eve", PASSWORD, ["--per-day", "2"]),
        ],
    )
    with session(relay) as client:
        client.ask("AUTH PLAIN " + plain(), 235)
        client.ask("MAIL FROM:<x@b.example>", 553, "5.7.1")
        client.ask("MAIL FROM:<>", 553)
        client.ask("MAIL FROM:<x@EXAMPLE.org>", 250)
        client.ask("RSET", 250)
        client.ask("MAIL FROM:<news@example.net>", 250)
        client.ask("RCPT TO:<a@d.example>", 250)
        client.ask("RCPT TO:<b@d.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 452, "4.5.3")
    for name, most in (("bob", 3), ("eve", 2)):
        for number in range(most + 1):  # over all sessions and shards
            with session(relay) as client:
                client.ask("AUTH PLAIN " + plain(name), 235)
                client.ask("MAIL FROM:<a@b.example>", 250 if number < most else 450)
    with session(relay) as client:  # others are not held up
        client.ask("AUTH PLAIN " + plain(), 235)
        client.ask("MAIL FROM:<x@example.org>", 250)


@test
def a_change_is_taken_at_once(t):
    relay, _ = with_users(t)
    with session(relay) as client:
        client.ask("AUTH PLAIN " + plain(), 235)
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RSET", 250)
        change_user(relay.users_path, "passwd", NAME, "--password-stdin", password="another")
        add_user(relay.users_path, "new", "new secret")

        def is_in(name, password):
            with session(relay, "127.7.1.%d" % (os.getpid() % 200 + 1)) as other:
                other.say("AUTH PLAIN " + plain(name, password))
                return other.reply().code == 235

        until(lambda: is_in("new", "new secret"), "the new user")
        equal((is_in(NAME, "another"), is_in(NAME, PASSWORD)), (True, False))
        change_user(relay.users_path, "set", NAME, "--disable")
        until(lambda: not is_in(NAME, "another"), "the end of it")
        client.ask("MAIL FROM:<a@b.example>", 550, "5.7.1")


# ---- who guesses ----


@test
def guessing_gets_slower(t):
    relay, _ = with_users(t)
    times = []
    for number in range(8):  # each shard counts what comes to it: on one of two it is the fourth at least
        with session(relay) as client:
            sent = time.monotonic()
            client.ask("AUTH PLAIN " + plain(password="guess %d" % number), 535)
            times.append(time.monotonic() - sent)
    if max(times) < 0.5 or max(times[:3]) > 0.5:
        raise AssertionError("%s" % times)
    with session(relay, OTHER) as client:  # who has the password is not held up
        begun = time.monotonic()
        client.ask("AUTH PLAIN " + plain(), 235)
        if time.monotonic() - begun > 5:
            raise AssertionError("%.1f s" % (time.monotonic() - begun))


@test
def many_at_once_hold_nobody_up(t):
    """Passwords are checked elsewhere: meanwhile a shard does its work."""
    relay, _ = with_users(t)
    clients = [session(relay, "127.6.%d.%d" % (number % 7 + 1, number + 1)) for number in range(60)]
    for number, client in enumerate(clients):
        client.say("AUTH PLAIN " + plain(password="wrong %d" % number))
    begun = time.monotonic()
    with session(relay, "127.9.9.9") as client:
        equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
    took = time.monotonic() - begun
    codes = {client.reply().code for client in clients}
    if took > 3 or not codes <= {535, 454}:
        raise AssertionError("%.1f s, %s" % (took, codes))
    for client in clients:
        client.close()
    relay.wait_outcomes(1)


@test
def no_secret_is_ever_written(t):
    relay, _ = with_users(t)
    with session(relay) as client:
        client.ask("AUTH PLAIN " + plain(password="a-very-secret-guess"), 535)
        client.ask("AUTH PLAIN " + plain(), 235)
    relay.stop()
    texts = [open(relay.config_path).read()] + [open(os.path.join(relay.events_path, name)).read() for name in os.listdir(relay.events_path)]
    for secret in ("a-very-secret-guess", PASSWORD, plain(), plain(password="a-very-secret-guess")):
        for text in texts:
            if secret in text:
                raise AssertionError("%r is in %r" % (secret, text[:200]))


run_all()
