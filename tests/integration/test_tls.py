"""TLS on the way in: STARTTLS and from the first byte, with real clients; certificates by name and kind, and taken anew; and what is done to break it."""
import base64
import os
import re
import smtplib
import socket
import ssl
import subprocess
import threading
import time

from certificates import certificate, openssl
from fakemx import FakeMx
from harness import Skip, equal, free_address, free_port, run_all, test, until
from relay import Ringpost, add_user, route, yaml

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"
STRANGER = "127.7.7.7"
NAME, PASSWORD = "ann@example.org", "correct horse"


def with_tls(t, certificates=None, listeners=({},), users=False, release=False, **more):
    """A relay with a listener for each of these; its own port is the first one's."""
    address = free_address()
    mx = FakeMx(t, address, free_port(address))
    config = {"relay_from": ["127.9.0.0/16", "127.0.0.1"], "routes": [route("*", (mx.address, mx.port))]}
    config["tls"] = {"certificates": certificates or [certificate(t, "own")], **more.pop("tls", {})}
    if users:
        path = t.path("users")
        add_user(path, NAME, PASSWORD)
        config["users"] = path
    config.update(more)
    relay = Ringpost(t, config, release=release, start=False)
    relay.ports = []
    for listener in listeners:
        relay.ports.append(relay.port if not relay.ports else free_port(relay.address))
        if len(relay.ports) > 1:
            relay.config["listeners"].append({"address": relay.address, "port": relay.ports[-1]})
        relay.config["listeners"][-1].update(listener)
    write_configuration(t, relay)
    return relay.start(), mx


def write_configuration(t, relay):
    t.write(relay.name + ".yaml", re.sub(r'"certificates": ', "certificates: ", yaml(relay.config)) + "\n")


def anyhow(version=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class Secure:
    """A raw client whose socket may be wrapped."""

    def __init__(self, client, context=None, host=None):
        self.client = client
        client.socket = (context or anyhow()).wrap_socket(client.socket, server_hostname=host)


def secured(relay, port=0, context=None, host=None, source="127.0.0.1", starttls=True):
    import smtp

    client = smtp.Client(relay.address, relay.ports[port], source=source)
    if starttls:
        client.hello()
        client.ask("STARTTLS", 220)
    client.socket = (context or anyhow()).wrap_socket(client.socket, server_hostname=host)
    if not starttls:
        client.expect(220)
    client.ask("EHLO client.example", 250)
    return client


# ---- clients ----


@test
def starttls_and_from_the_first_byte(t):
    relay, mx = with_tls(t, listeners=({"tls": "starttls"}, {"tls": "implicit"}))
    for number, version in enumerate((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)):
        for port in (0, 1):
            with secured(relay, port, anyhow(version), starttls=port == 0) as client:
                equal(client.socket.version(), ("TLSv1.2", "TLSv1.3")[number])
                if "STARTTLS" in client.ask("EHLO again.example", 250).text:
                    raise AssertionError("STARTTLS is offered again")
                client.ask("STARTTLS", (502, 503, 554))
                equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
                client.quit()
    relay.wait_outcomes(4)
    equal(len(mx.messages), 4)
    equal(relay.metrics()["ringpost_sessions_tls_total"], 4)
    event = min(relay.events("Reception"), key=lambda one: one["timestamp"])  # each shard has a file of its own
    equal((event["tls_protocol_version"], event["tls_cipher"].startswith("TLS_")), ("TLSv1.2", True))
    if not re.search(rb"with ESMTPS id ", mx.messages[0].raw if hasattr(mx.messages[0], "raw") else mx.messages[0].content):
        raise AssertionError("Received: %r" % mx.messages[0].content[:300])


@test
def smtplib_and_a_large_message(t):
    relay, mx = with_tls(t, listeners=({"tls": "starttls"}, {"tls": "implicit"}), users=True)
    content = b"Subject: large\r\n\r\n" + b"".join(b"%070d\r\n" % number for number in range(40000))
    for port in (0, 1):
        client = (smtplib.SMTP_SSL if port else smtplib.SMTP)(relay.address, relay.ports[port], timeout=60, source_address=(STRANGER, 0), **({"context": anyhow()} if port else {}))
        if not port:
            client.starttls(context=anyhow())
        client.login(NAME, PASSWORD)
        client.sendmail("a@b.example", ["c@d.example"], content)
        client.quit()
    relay.wait_outcomes(2)
    for message in mx.messages:
        equal(message.content.endswith(content), True, "the content")


@test
def what_is_offered(t):
    """All that openssl can ask for, asked for by itself."""
    relay, _ = with_tls(t, [certificate(t, "ec"), certificate(t, "rsa", kind="rsa")], listeners=({"tls": "implicit"},))
    base = ["openssl", "s_client", "-connect", "%s:%d" % (relay.address, relay.port)]

    def shaken(*options):
        """Both went through the handshake, so there is a session, with a cipher."""
        done = subprocess.run([*base, *options], input=b"QUIT\r\n", capture_output=True, timeout=30, check=False)
        found = re.search(rb"Cipher is (\S+)", done.stdout)
        return done if found and found.group(1) != b"(NONE)" and done.returncode == 0 else None

    def listed(*options):
        return openssl("ciphers", "-s", *options).decode().strip().split(":")

    weak = ["-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0"]
    versions = [version for version in ("tls1", "tls1_1", "tls1_2", "tls1_3") if shaken("-" + version, *weak)]
    old = [name for name in listed("-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0") if shaken("-tls1_2", "-cipher", name + ":@SECLEVEL=0")]
    new = [name for name in listed("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_CCM_SHA256") if shaken("-tls1_3", "-ciphersuites", name)]
    groups = [group for group in ("X25519", "X448", "P-224", "P-256", "P-384", "P-521", "ffdhe2048", "ffdhe3072") if shaken("-tls1_3", "-groups", group)]
    print("# " + "; ".join((" ".join(versions), " ".join(new), " ".join(old), " ".join(groups))))
    equal(versions, ["tls1_2", "tls1_3"])
    equal(sorted(new), ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
    equal(sorted(old), sorted("ECDHE-%s-%s" % (key, cipher) for key in ("ECDSA", "RSA") for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")))
    equal(sorted(groups), ["P-256", "P-384", "X25519"])
    plain = shaken("-tls1_2").stdout
    for wanted in (b"Compression: NONE", b"Secure Renegotiation IS supported", b"Extended master secret: yes"):
        if wanted not in plain:
            raise AssertionError("no %s: %s" % (wanted, plain[-1500:]))


# ---- certificates ----


def shown(relay, host=None, ciphers=None, port=0, version=None):
    """Whose certificate it is, and what kind of key."""
    command = ["openssl", "s_client", "-connect", "%s:%d" % (relay.address, relay.ports[port])] + (["-servername", host] if host else ["-noservername"])
    command += ["-sigalgs", ciphers] if ciphers else []
    command += [version] if version else []
    run = subprocess.run(command, input=b"QUIT\r\n", capture_output=True, timeout=30, check=False)
    found = re.search(rb"subject=CN = (\S+)", run.stdout)
    return found.group(1).decode() if found else None


@test
def by_name_and_by_kind(t):
    certificates = [certificate(t, "first", ["relay.ringpost.example"], "rsa"), certificate(t, "first-ec", ["relay.ringpost.example"])]
    certificates += [certificate(t, "second", ["mail.example.net", "*.wild.example"])]
    relay, _ = with_tls(t, certificates, listeners=({"tls": "implicit"},))
    equal(shown(relay), "first-ec")
    equal(shown(relay, "relay.ringpost.example"), "first-ec")
    equal(shown(relay, "relay.ringpost.example", "RSA-PSS+SHA256:RSA+SHA256"), "first")
    equal(shown(relay, "MAIL.example.net"), "second")
    equal(shown(relay, "a.wild.example"), "second")
    equal(shown(relay, "a.b.wild.example"), "first-ec")
    equal(shown(relay, "unknown.example", version="-tls1_2"), "first-ec")


@test
def a_wrong_certificate_is_said_at_start(t):
    good, other = certificate(t, "good"), certificate(t, "other")
    garbage = t.write("garbage.pem", "no certificate\n")
    for certificates, words in (
        ([{"cert": t.path("missing.pem"), "key": good["key"]}], ["missing.pem"]),
        ([{"cert": garbage, "key": good["key"]}], ["garbage.pem"]),
        ([{"cert": good["cert"], "key": other["key"]}], ["good.pem", "private key"]),
    ):
        relay = Ringpost(t, {"tls": {"certificates": certificates}}, start=False, check=False)
        write_configuration(t, relay)
        run = subprocess.run([relay.binary, "--config", relay.config_path], capture_output=True, text=True, timeout=20, check=False)
        equal(run.returncode, 2)
        for word in words:
            if word not in run.stderr:
                raise AssertionError("%r is not in %s" % (word, run.stderr))


@test
def taken_anew_under_load(t):
    """By SIGHUP and by itself when the files change: no session fails meanwhile, and old ones go on."""
    own = certificate(t, "before")
    relay, mx = with_tls(t, [own], listeners=({"tls": "starttls"}, {"tls": "implicit"}), release=True)
    old = secured(relay)
    sent, failures, stop = [0], [], threading.Event()

    def send():
        while not stop.is_set():
            try:
                with secured(relay, sent[0] % 2, starttls=sent[0] % 2 == 0) as client:
                    equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
                    client.quit()
                sent[0] += 1
            except Exception as error:  # whatever it is
                failures.append(error)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for name in ("after", "again"):
            fresh = certificate(t, name)
            os.replace(fresh["cert"], own["cert"])
            time.sleep(0.3)  # one is there before the other
            os.replace(fresh["key"], own["key"])
            until(lambda: shown(relay, port=1) == name, "the new certificate")
        fresh = certificate(t, "by-signal")
        relay.config["tls"]["certificates"] = [fresh]
        write_configuration(t, relay)
        relay.process.signal(1)
        until(lambda: shown(relay, port=1) == "by-signal", "the new configuration")
        relay.config["tls"]["certificates"] = [{"cert": t.path("nowhere"), "key": fresh["key"]}]
        write_configuration(t, relay)
        relay.process.signal(1)
        until(lambda: "nowhere" in relay.log(), "the refusal")
        equal(shown(relay, port=1), "by-signal")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    equal(failures, [])
    if sent[0] < 20:
        raise AssertionError("only %d sessions" % sent[0])
    equal(old.message("a@b.example", ["c@d.example"], CONTENT).code, 250)
    old.quit()


@test
def clients_with_certificates(t):
    authority = certificate(t, "authority", hosts=())
    mine, foreign = certificate(t, "mine", ["me.example"], issuer=authority), certificate(t, "foreign", ["me.example"])
    relay, _ = with_tls(
        t,
        listeners=({"tls": "starttls", "client_certificates": "optional"}, {"tls": "implicit", "client_certificates": "required"}),
        tls={"client_ca": authority["cert"]},
    )

    def answer(port, own):
        context = anyhow()
        if own:
            context.load_cert_chain(own["cert"], own["key"])
        with secured(relay, port, context, source=STRANGER, starttls=port == 0) as client:
            client.say("MAIL FROM:<a@b.example>")
            reply = client.reply()
            if reply.code != 250:
                return reply.code
            client.say("RCPT TO:<c@d.example>")
            return client.reply().code

    equal([answer(port, own) for port in (0, 1) for own in (mine, foreign, None)], [250, 550, 550, 250, 530, 530])


@test
def sessions_are_resumed(t):
    relay, _ = with_tls(t, listeners=({"tls": "implicit"},))
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context, session, reused = anyhow(version), None, []
        for _ in range(6):
            with socket.create_connection((relay.address, relay.port), 20) as plain, context.wrap_socket(plain, session=session) as client:
                client.recv(1000)
                client.sendall(b"QUIT\r\n")
                client.recv(1000)
                reused.append(client.session_reused)
                session = client.session
        equal(reused, [False] + 5 * [True])


# ---- those who mean harm ----


@test
def nothing_slips_in_behind_starttls(t):
    """What came in the clear together with STARTTLS is not obeyed behind TLS (CVE-2011-0411)."""
    relay, _ = with_tls(t)
    with relay.client(source="127.0.0.1") as client:
        client.hello()
        client.send(b"STARTTLS\r\nMAIL FROM:<evil@b.example>\r\nRCPT TO:<c@d.example>\r\n")
        client.expect((501, 554))
        if b"250" in client.closed():
            raise AssertionError("obeyed")
    with relay.client(source="127.0.0.1") as client:
        client.hello()
        client.ask("MAIL FROM:<before@b.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 250)
        client.say("STARTTLS")
        reply = client.reply()
        if reply.code == 220:  # then it is all forgotten
            client.socket = anyhow().wrap_socket(client.socket)
            client.ask("DATA", 503)
        else:
            equal(reply.code, 503)


@test
def half_handshakes_end(t):
    relay, _ = with_tls(t, listeners=({"tls": "implicit"}, {"tls": "starttls"}), tls={"handshake_timeout": "1s"})
    for begin in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 60, b"EHLO a.example\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70000, b"\x80\x2e\x01\x03\x01" + b"x" * 100):
        for port in (0, 1):
            begun = time.monotonic()
            with socket.create_connection((relay.address, relay.ports[port]), 20) as client:
                if port == 1:
                    client.recv(1000)
                    client.sendall(b"EHLO a.example\r\n")
                    client.recv(1000)
                    client.sendall(b"STARTTLS\r\n")
                    equal(client.recv(1000)[:3], b"220")
                try:
                    client.sendall(begin)
                    while client.recv(10000):
                        pass
                except ConnectionError:
                    pass
                except TimeoutError:
                    raise AssertionError("%r is waited for on port %d" % (begin[:10], port)) from None
            if time.monotonic() - begun > 5:
                raise AssertionError("%r: %.1f s" % (begin[:10], time.monotonic() - begun))
    until(lambda: relay.metrics()["ringpost_sessions_open"] == 0, "all to have left")
    with secured(relay, 1) as client:
        equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)


@test
def byte_by_byte(t):
    relay, mx = with_tls(t, listeners=({"tls": "implicit"},))
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = anyhow().wrap_bio(ours, theirs)
    with socket.create_connection((relay.address, relay.port), 20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def pump(step):
            while True:
                try:
                    result = step()
                    break
                except ssl.SSLWantReadError:
                    for byte in theirs.read():
                        client.send(bytes([byte]))
                    ours.write(client.recv(65536))
            for byte in theirs.read():
                client.send(bytes([byte]))
            return result

        pump(tls.do_handshake)
        equal(pump(lambda: tls.read(1000))[:3], b"220")
        for line in (b"EHLO a.example\r\n", b"MAIL FROM:<a@b.example>\r\n", b"RCPT TO:<c@d.example>\r\n", b"DATA\r\n", CONTENT + b".\r\n"):
            pump(lambda text=line: tls.write(text))
            equal(pump(lambda: tls.read(1000))[:1] in (b"2", b"3"), True)
    relay.wait_outcomes(1)


@test
def a_large_message_in_pieces_of_records(t):
    """Of a long message bytes are asked for piece by piece; a piece may hold no whole record."""
    relay, mx = with_tls(t, listeners=({"tls": "implicit"},))
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = anyhow().wrap_bio(ours, theirs)
    content = b"Subject: large\r\n\r\n" + b"".join(b"%070d\r\n" % number for number in range(12000))
    with socket.create_connection((relay.address, relay.port), 20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def send():
            data = theirs.read()
            for at in range(0, len(data), 5000):
                client.sendall(data[at : at + 5000])
                time.sleep(0.0005)

        def pump(step):
            while True:
                try:
                    result = step()
                    send()
                    return result
                except ssl.SSLWantReadError:
                    send()
                    ours.write(client.recv(65536))

        pump(tls.do_handshake)
        equal(pump(lambda: tls.read(1000))[:3], b"220")
        for line, code in ((b"EHLO a.example\r\n", b"250"), (b"MAIL FROM:<a@b.example>\r\n", b"250"), (b"RCPT TO:<c@d.example>\r\n", b"250"), (b"DATA\r\n", b"354"), (content + b".\r\n", b"250")):
            pump(lambda text=line: tls.write(text))
            equal(pump(lambda: tls.read(1000))[:3], code)
    relay.wait_outcomes(1)
    equal(mx.messages[0].content.endswith(content), True, "the content")


@test
def passwords_only_behind_tls(t):
    relay, _ = with_tls(t, listeners=({"tls": "starttls", "auth": "required"},), users=True)
    response = base64.b64encode(("\0%s\0%s" % (NAME, PASSWORD)).encode()).decode()
    with relay.client(source=STRANGER) as client:
        if "AUTH" in client.hello().text:
            raise AssertionError("AUTH is offered in the clear")
        client.ask("AUTH PLAIN " + response, (502, 503, 530, 538))
        client.ask("MAIL FROM:<a@b.example>", 530, "5.7.0")
    with secured(relay, source=STRANGER) as client:
        client.ask("MAIL FROM:<a@b.example>", 530)
        client.ask("AUTH PLAIN " + response, 235)
        equal(client.message("a@b.example", ["c@d.example"], CONTENT).code, 250)


@test
def who_it_was_in_the_clear_is_forgotten(t):
    """STARTTLS behind AUTH: nobody is authenticated any more, and the next name is not the first one's."""
    relay, _ = with_tls(t, listeners=({"tls": "starttls", "auth": "optional", "auth_in_clear": True},), users=True)
    add_user(relay.config["users"], "bob", "another", "--senders", "bob@b.example")
    first, second = (base64.b64encode(("\0%s\0%s" % who).encode()).decode() for who in ((NAME, PASSWORD), ("bob", "another")))

    def bob_is_known():
        with relay.client(source=STRANGER) as client:
            client.hello()
            client.say("AUTH PLAIN " + second)
            return client.reply().code == 235

    until(bob_is_known, "bob")
    with relay.client(source=STRANGER) as client:
        client.hello()
        client.ask("AUTH PLAIN " + first, 235)
        client.ask("STARTTLS", 220)
        client.socket = anyhow().wrap_socket(client.socket)
        client.ask("EHLO again.example", 250)
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 550)
        client.ask("RSET", 250)
        client.ask("AUTH PLAIN " + second, 235)
        client.ask("MAIL FROM:<a@b.example>", 553, "5.7.1")
        equal(client.message("bob@b.example", ["c@d.example"], CONTENT).code, 250)
    event = relay.wait_event("Reception")
    equal(event["meta"], {"user": "bob"})


run_all()
