"""TLS on the way out: STARTTLS and from the first byte, with and without a certificate that holds, with servers whose TLS is broken; AUTH at smart hosts."""
import os
import re
import signal
import ssl

from certificates import certificate
from fakemx import Cut, FakeMx, Raw, Silence, tls_context
from harness import equal, free_address, free_port, run_all, run_program, test, until
from mtas import Exim, Postfix
from relay import Ringpost, merge, route, yaml

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"
NAME, PASSWORD = "relay@example.net", "correct horse"
SECOND = {"queue": {"retry_initial": "200ms", "retry_factor": 1, "retry_max": "200ms", "retry_jitter": "0%"}}


def mx_of(t, script=None, certified=None, **options):
    address = free_address()
    certified = certified or certificate(t, "mx", ("mx.example",))
    options.setdefault("tls", tls_context(certified))
    return FakeMx(t, address, free_port(address), script=script, **options)


def relay_to(t, mx, config=None, domain="*", **more):
    one = merge(route(domain, (mx.address, mx.port)), more)
    if more.get("user"):
        path = t.write(t.unique("password"), PASSWORD + "\n")
        os.chmod(path, 0o600)
        one["password_file"] = path
    return Ringpost(t, merge({"routes": [one]}, config or {}))


def counters(relay):
    metrics = relay.metrics()
    return tuple(int(metrics["ringpost_connections_tls%s_total" % name]) for name in ("", "_resumed", "_failed"))


def only_greetings(mx):
    """Nothing of a message went out in the clear."""
    return all(line.split(" ")[0].upper() in ("EHLO", "STARTTLS", "QUIT") for _, line in mx.in_clear)


@test
def opportunistic_uses_what_there_is(t):
    mx = mx_of(t)
    relay = relay_to(t, mx)
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    (event,) = relay.wait_outcomes(1)
    equal(event["type"], "Delivery")
    equal(event["tls_protocol_version"], "TLSv1.3")
    equal(event["tls_cipher"].startswith("TLS_"), True, event["tls_cipher"])
    equal([received.tls for received in mx.messages], ["TLSv1.3"])
    equal(mx.messages[0].content.endswith(CONTENT), True)
    equal(only_greetings(mx), True, mx.in_clear)
    equal([line.split(" ")[0] for _, line in mx.commands[:3]], ["EHLO", "STARTTLS", "EHLO"])
    equal(counters(relay), (1, 0, 0))


@test
def large_messages_and_many(t):
    """Records, parts from the disk, pipelined envelopes: what comes out is what went in."""
    mx = mx_of(t, capabilities=("PIPELINING", "SIZE 104857600", "8BITMIME"))
    relay = relay_to(t, mx)
    body = b"".join(b"%06d %s\r\n" % (i, b"x" * 60) for i in range(120000))
    for size in (1, 1000, 16000, 70000, len(body)):
        relay.send("a@b.example", ["r%d@d.example" % size], b"Subject: %d\r\n\r\n" % size + body[: size // 69 * 69])
    for i in range(60):
        relay.send("a@b.example", ["m%d@d.example" % i], CONTENT)
    equal({event["type"] for event in relay.wait_outcomes(65, 120)}, {"Delivery"})
    for received in mx.messages:
        equal(received.tls, "TLSv1.3")
        found = re.fullmatch(r"r(\d+)@d.example", received.recipients[0])
        if found:
            equal(received.content.endswith(b"\r\n\r\n" + body[: int(found.group(1)) // 69 * 69]), True, found.group(1))


@test
def a_second_connection_resumes(t):
    mx = mx_of(t)
    relay = relay_to(t, mx, {"shards": 1, "delivery": {"messages_per_connection": 1, "connections_per_site": 1}})
    for i in range(4):
        relay.send("a@b.example", ["r%d@d.example" % i], CONTENT)
        relay.wait_outcomes(i + 1)
    equal([one.resumed for one in mx.handshakes], [False, True, True, True])
    equal(counters(relay), (4, 3, 0))


@test
def a_server_that_gives_no_second_ticket(t):
    """The first one serves again."""
    mx = mx_of(t, {"QUIT": lambda session, _: setattr(session.mx.tls, "num_tickets", 0)})
    relay = relay_to(t, mx, {"shards": 1, "delivery": {"messages_per_connection": 1, "connections_per_site": 1, "tls": "require"}})
    for i in range(4):
        relay.send("a@b.example", ["r%d@d.example" % i], CONTENT)
        relay.wait_outcomes(i + 1)
        until(lambda: mx.verbs().count("QUIT") == i + 1, "the end of the connection")
    equal([one.resumed for one in mx.handshakes], [False, True, True, True])
    equal(relay.tally(), {"Reception": 4, "Delivery": 4})


@test
def a_session_that_spoils_the_handshake_is_forgotten(t):
    """Whatever it is that the server does not like: once more, without; and it is no reason to go without TLS."""
    mx = mx_of(t, {"HANDSHAKE": [None, Cut(), None]})
    relay = relay_to(t, mx, {"shards": 1, "delivery": {"messages_per_connection": 1, "connections_per_site": 1, "tls": "require"}})
    for i in range(2):
        relay.send("a@b.example", ["r%d@d.example" % i], CONTENT)
        relay.wait_outcomes(i + 1)
        until(lambda: mx.open_sessions == 0, "the end of the connection")
    equal([one.resumed for one in mx.handshakes], [False, False])
    equal(relay.tally(), {"Reception": 2, "Delivery": 2})
    equal(counters(relay), (2, 0, 1))


@test
def tls_1_2_goes_too(t):
    mx = mx_of(t, tls=tls_context(certificate(t, "mx", ("mx.example",)), most=ssl.TLSVersion.TLSv1_2))
    relay = relay_to(t, mx, {"shards": 1, "delivery": {"messages_per_connection": 1}})
    for i in range(2):
        relay.send("a@b.example", ["r%d@d.example" % i], CONTENT)
        (event,) = relay.wait_outcomes(i + 1)[i:]
        equal(event["tls_protocol_version"], "TLSv1.2")


@test
def none_does_not_ask(t):
    mx = mx_of(t)
    relay = relay_to(t, mx, {"delivery": {"tls": "none"}})
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    (event,) = relay.wait_outcomes(1)
    equal("tls_protocol_version" in event, False)
    equal(mx.handshakes, [])
    equal("STARTTLS" in mx.verbs(), False)


# ---- broken TLS ----


def falls_back(t, script, failed=1, connections=2, **options):
    mx = mx_of(t, script, **options)
    relay = relay_to(t, mx, {"shards": 1, "delivery": {"messages_per_connection": 1, "connections_per_site": 1, "timeouts": {"command": "2s"}}})
    for i in range(2):
        relay.send("a@b.example", ["r%d@d.example" % i], CONTENT)
        relay.wait_outcomes(i + 1)
    equal(relay.tally(), {"Reception": 2, "Delivery": 2})
    equal({event["num_attempts"] for event in relay.finals()}, {1})
    equal([received.tls for received in mx.messages], ["", ""])
    equal(mx.verbs().count("STARTTLS"), 1, "it is remembered")
    equal(mx.connections, connections)
    equal(counters(relay), (0, 0, failed))


@test
def a_refused_starttls_is_remembered_and_the_connection_goes_on(t):
    falls_back(t, {"STARTTLS": "454 4.7.0 not now"}, failed=0)


@test
def a_handshake_that_is_cut_is_made_up_for_in_the_clear(t):
    falls_back(t, {"HANDSHAKE": Cut()}, connections=3)


@test
def a_handshake_with_garbage(t):
    falls_back(t, {"HANDSHAKE": Raw(b"500 what is that\r\n")}, connections=3)


@test
def garbage_in_one_packet_with_the_answer(t):
    falls_back(t, {"STARTTLS": Raw(b"220 go on\r\n500 what is that\r\n")}, connections=3, lawful=False)


@test
def a_server_that_hangs_up_on_starttls(t):
    falls_back(t, {"STARTTLS": Cut()}, connections=3)


@test
def a_handshake_that_never_ends(t):
    falls_back(t, {"HANDSHAKE": Silence()}, connections=3)


@test
def nothing_in_common(t):
    tls = tls_context(certificate(t, "mx", ("mx.example",)))
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.set_ciphers("AES128-SHA:@SECLEVEL=0")
    falls_back(t, None, connections=3, tls=tls)


@test
def a_server_that_hangs_up_behind_the_handshake(t):
    mx = mx_of(t, {"EHLO": lambda session, _: Cut() if session.tls else None})
    relay = relay_to(t, mx, {"shards": 1})
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    (event,) = relay.wait_outcomes(1)
    equal((event["type"], event["num_attempts"], "tls_cipher" in event), ("Delivery", 1, False))
    equal(counters(relay), (1, 0, 1))


@test
def what_an_attacker_adds_is_not_believed(t):
    """Replies behind the 220 in the clear: the connection is of no use, and nothing of a message goes over it."""
    mx = mx_of(t, {"STARTTLS": Raw(b"220 go on\r\n250-mx\r\n250 SIZE\r\n")}, lawful=False)
    relay = relay_to(t, mx, merge(SECOND, {"delivery": {"tls": "require"}}))
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    event = relay.wait_event("TransientFailure")
    equal("in the clear" in event["response"]["content"], True, event)
    equal(mx.contents, [])


# ---- require and verify ----


def defers(t, mx, config, content, **more):
    relay = relay_to(t, mx, merge(SECOND, config), **more)
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    until(lambda: len(relay.events("TransientFailure")) >= 2, lambda: "two failures; %s %s" % (relay.tally(), relay.log()[-1000:]))
    for event in relay.events("TransientFailure"):
        equal(re.fullmatch(content, event["response"]["content"]) is not None, True, event["response"]["content"])
        equal((event["category"], event["rule"], event["verdict"], event["response"]["code"]), ("tls", "tls", "soft", 451))
        equal("tls_cipher" in event, False)
    equal(mx.contents, [])
    equal(only_greetings(mx), True, mx.in_clear)
    return relay


@test
def require_without_an_offer(t):
    mx = mx_of(t, tls=None)
    relay = defers(t, mx, {"delivery": {"tls": "require"}}, "TLS: it is required, and the server does not offer it")
    equal("MAIL" in mx.verbs(), False)
    equal(counters(relay), (0, 0, 0))


@test
def require_refused(t):
    mx = mx_of(t, {"STARTTLS": lambda *_: "454 4.7.0 not now"})
    defers(t, mx, {"delivery": {"tls": "require"}}, "TLS: it is required, and the server refused it: 454 not now")


@test
def require_cut(t):
    mx = mx_of(t, {"HANDSHAKE": lambda *_: Cut()})
    relay = defers(t, mx, {"delivery": {"tls": "require"}}, "TLS: connection (closed|reset)")
    equal(counters(relay)[2] >= 2, True)


@test
def require_takes_any_certificate(t):
    mx = mx_of(t)
    relay = relay_to(t, mx, {"delivery": {"tls": "require"}})
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    equal(relay.wait_outcomes(1)[0]["type"], "Delivery")
    equal(only_greetings(mx), True)


def authority(t):
    return certificate(t, "authority", ())


@test
def verify_with_the_right_name(t):
    ca = authority(t)
    mx = mx_of(t, certified=certificate(t, "mx", ("smtp.example", "mx.example"), issuer=ca))
    relay = relay_to(t, mx, {"tls": {"ca": ca["cert"]}}, tls="verify", tls_name="mx.example")
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    (event,) = relay.wait_outcomes(1)
    equal((event["type"], event["tls_protocol_version"]), ("Delivery", "TLSv1.3"))
    equal([one.host for one in mx.handshakes], ["mx.example"])


@test
def verify_with_a_wrong_name(t):
    ca = authority(t)
    mx = mx_of(t, certified=certificate(t, "mx", ("other.example",), issuer=ca))
    defers(t, mx, {"tls": {"ca": ca["cert"]}}, "TLS: certificate: hostname mismatch", tls="verify", tls_name="mx.example")


@test
def verify_with_nobodys_certificate(t):
    mx = mx_of(t)
    defers(t, mx, {}, "TLS: certificate: self-signed certificate", tls="verify", tls_name="mx.example")


@test
def verify_is_no_affair_of_other_domains(t):
    """The entry of one domain makes its site safe; another site stays as it is."""
    strict, lax = mx_of(t), mx_of(t)
    config = {
        "routes": [route("strict.example", (strict.address, strict.port)), route("*", (lax.address, lax.port))],
        "sites": [{"match": ["strict.example"], "tls": "verify"}],
    }
    relay = Ringpost(t, merge(SECOND, config))
    relay.send("a@b.example", ["c@strict.example", "c@lax.example"], CONTENT)
    equal(relay.wait_event("Delivery")["recipient"], "c@lax.example")
    equal(relay.wait_event("TransientFailure")["recipient"], "c@strict.example")
    equal(strict.contents, [])


@test
def the_next_host_has_it(t):
    """One without TLS and one with: the message goes to the second, without a failed attempt."""
    first, second = mx_of(t, tls=None), mx_of(t)
    relay = Ringpost(t, {"routes": [route("*", (first.address, first.port), (second.address, second.port))], "delivery": {"tls": "require"}})
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    (event,) = relay.wait_outcomes(1)
    equal((event["type"], event["peer_address"]["addr"].split(":")[0], event["num_attempts"]), ("Delivery", second.address, 1))
    equal(relay.tally().get("TransientFailure", 0), 0)


# ---- smart hosts ----


@test
def implicit_with_a_name_and_a_password(t):
    ca = authority(t)
    mx = mx_of(t, certified=certificate(t, "mx", ("mx.example",), issuer=ca), implicit=True, accounts={NAME: PASSWORD})
    relay = relay_to(t, mx, {"tls": {"ca": ca["cert"]}}, tls="implicit", tls_name="mx.example", user=NAME)
    for i in range(3):
        relay.send("a@b.example", ["r%d@d.example" % i], CONTENT)
    for event in relay.wait_outcomes(3):
        equal((event["type"], event["tls_protocol_version"]), ("Delivery", "TLSv1.3"))
    equal({(received.user, received.tls) for received in mx.messages}, {(NAME, "TLSv1.3")})
    equal(mx.in_clear, [])


@test
def implicit_never_falls_back(t):
    mx = mx_of(t, {"HANDSHAKE": lambda *_: Cut()}, implicit=True, accounts={NAME: PASSWORD})
    defers(t, mx, {}, "TLS: connection (closed|reset)", tls="implicit", user=NAME)


@test
def implicit_with_a_wrong_certificate(t):
    mx = mx_of(t, implicit=True, accounts={NAME: PASSWORD})
    defers(t, mx, {}, "TLS: certificate: self-signed certificate", tls="implicit", tls_name="mx.example", user=NAME)


@test
def login_where_only_that_is_offered(t):
    mx = mx_of(t, accounts={NAME: PASSWORD}, mechanisms="CRAM-MD5 LOGIN")
    relay = relay_to(t, mx, user=NAME)
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    equal(relay.wait_outcomes(1)[0]["type"], "Delivery")
    equal([received.user for received in mx.messages], [NAME])
    equal(any(line.startswith("AUTH") for _, line in mx.in_clear), False)


@test
def a_wrong_password_defers(t):
    mx = mx_of(t, accounts={NAME: "another"})
    relay = relay_to(t, mx, SECOND, user=NAME)
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    event = relay.wait_event("TransientFailure")
    equal((event["response"]["code"], event["response"]["command"], event["verdict"]), (535, "AUTH", "soft"))
    equal("MAIL" in mx.verbs(), False)


@test
def no_auth_no_mail(t):
    mx = mx_of(t)
    relay = relay_to(t, mx, SECOND, user=NAME)
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    event = relay.wait_event("TransientFailure")
    equal((event["rule"], event["response"]["content"]), ("auth", "AUTH: the server offers neither PLAIN nor LOGIN"))
    equal(mx.contents, [])


@test
def a_password_does_not_travel_in_the_clear(t):
    """With a user TLS is a must, though nothing says so; a route has to say none itself."""
    mx = mx_of(t, tls=None, accounts={NAME: PASSWORD})
    defers(t, mx, {"delivery": {"tls": "none"}}, "TLS: it is required, and the server does not offer it", user=NAME)
    equal("AUTH" in mx.verbs(), False)
    other = mx_of(t, tls=None, accounts={NAME: PASSWORD})
    relay = relay_to(t, other, tls="none", user=NAME)
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    equal(relay.wait_outcomes(1)[0]["type"], "Delivery")
    equal([received.user for received in other.messages], [NAME])


# ---- reload ----


def reload(relay, changes):
    relay.config = merge(relay.config, changes)
    relay.case.write(relay.name + ".yaml", yaml(relay.config) + "\n")
    before = relay.log().count("is read again and in use")
    relay.process.signal(signal.SIGHUP)
    until(lambda: relay.log().count("is read again and in use") > before, lambda: "the reload; log:\n%s" % relay.log()[-1500:])


@test
def a_stricter_rule_holds_for_connections_that_are_there(t):
    mx = mx_of(t)
    relay = relay_to(t, mx, {"shards": 1, "delivery": {"tls": "none"}})
    for number, rule in enumerate(("none", "require", "opportunistic", "require")):
        reload(relay, {"delivery": {"tls": rule}})
        relay.send("a@b.example", ["r%d@d.example" % number], CONTENT)
        relay.wait_outcomes(number + 1)
    equal([received.tls for received in mx.messages], ["", "TLSv1.3", "TLSv1.3", "TLSv1.3"])
    equal([received.connection for received in mx.messages][:2], [1, 2])


@test
def authorities_and_the_rule_of_a_site_are_read_again(t):
    ca = authority(t)
    mx = mx_of(t, certified=certificate(t, "mx", ("mx.example",), issuer=ca))
    relay = relay_to(t, mx, SECOND, tls="verify", tls_name="mx.example")
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    equal(relay.wait_event("TransientFailure")["rule"], "tls")
    equal(mx.contents, [])
    reload(relay, {"tls": {"ca": ca["cert"]}})
    equal(relay.wait_outcomes(1)[0]["type"], "Delivery")


@test
def sessions_are_resumed_after_a_reload_unless_the_authorities_changed(t):
    ca = authority(t)
    mx = mx_of(t)
    relay = relay_to(t, mx, {"shards": 1, "tls": {"ca": ca["cert"]}, "delivery": {"messages_per_connection": 1, "connections_per_site": 1}})
    for i in range(3):
        relay.send("a@b.example", ["r%d@d.example" % i], CONTENT)
        relay.wait_outcomes(i + 1)
        until(lambda: mx.open_sessions == 0, "the end of the connection")
        if i == 1:
            with open(ca["cert"], "a") as file:
                file.write("\n")
        reload(relay, {})
    equal([one.resumed for one in mx.handshakes], [False, True, False])


@test
def a_new_password_is_read_and_a_bad_file_changes_nothing(t):
    mx = mx_of(t, accounts={NAME: "another"})
    relay = relay_to(t, mx, SECOND, user=NAME)
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    equal(relay.wait_event("TransientFailure")["response"]["code"], 535)
    (path,) = [one["password_file"] for one in relay.config["routes"]]
    os.chmod(path, 0o644)
    relay.process.signal(signal.SIGHUP)
    until(lambda: "password_file" in relay.log(), lambda: "a word about the file: %s" % relay.log()[-500:])
    equal("the configuration stays as it is" in relay.log() and "others may read or write it" in relay.log(), True, relay.log()[-500:])
    os.chmod(path, 0o600)
    with open(path, "w") as file:
        file.write("another\n")
    reload(relay, {})
    equal(relay.wait_outcomes(1)[0]["type"], "Delivery")
    equal([received.user for received in mx.messages], [NAME])


@test
def a_bad_file_at_the_start(t):
    mx = mx_of(t)
    for name, mode, why in (("open", 0o644, "others may read or write it"), ("absent", None, "not found")):
        path = t.path(name)
        if mode:
            t.write(name, PASSWORD)
            os.chmod(path, mode)
        one = merge(route("*", (mx.address, mx.port)), {"user": NAME, "password_file": path})
        relay = Ringpost(t, {"routes": [one]}, start=False)
        code, output = run_program([relay.binary, "--config", relay.config_path, "--check"])
        equal((code, "routes[0].password_file" in output, why in output), (2, True, True), output)
    relay = Ringpost(t, {"routes": [route("*", (mx.address, mx.port))], "tls": {"ca": t.path("absent")}}, start=False)
    code, output = run_program([relay.binary, "--config", relay.config_path])
    equal((code, t.path("absent") in output), (2, True), output)


# ---- with real servers ----


def arrives(t, receiver, count=3, config=None, **more):
    """Each message over a connection of its own; returns the relay and its events."""
    one = {"shards": 1, "delivery": {"messages_per_connection": 1, "connections_per_site": 1, "tls": "require"}}
    relay = relay_to(t, receiver, merge(one, config or {}), **more)
    body = b"".join(b".%06d %s\r\n" % (i, b"x" * 60) for i in range(3000))
    for i in range(count):
        relay.send("a@b.example", ["r%d@d.example" % i], CONTENT + body)
        relay.wait_outcomes(i + 1)
    equal({event["type"] for event in relay.finals()}, {"Delivery"})
    equal({event["tls_protocol_version"] for event in relay.finals()}, {"TLSv1.3"})
    for message in receiver.wait_messages(count):
        equal(message.replace(b"\r\n", b"\n").rstrip(), (CONTENT + body).replace(b"\r\n", b"\n").rstrip())
    return relay


@test
def postfix_over_tls(t):
    postfix = Postfix(t, certified=certificate(t, "postfix", ("mx.example",)))
    relay = arrives(t, postfix)
    equal(counters(relay), (3, 2, 0))
    equal(postfix.log().count("TLS connection established from"), 3, postfix.log()[-2000:])
    equal([b"using TLSv1.3" in stored for stored in postfix.stored()], [True] * 3)


@test
def postfix_verified(t):
    ca = certificate(t, "authority", ())
    postfix = Postfix(t, certified=certificate(t, "postfix", ("mx.example",), issuer=ca))
    arrives(t, postfix, 1, {"tls": {"ca": ca["cert"]}}, tls="verify", tls_name="mx.example")
    relay = relay_to(t, postfix, merge(SECOND, {"tls": {"ca": ca["cert"]}}), tls="verify", tls_name="other.example")
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    event = relay.wait_event("TransientFailure")
    equal((event["rule"], event["response"]["content"]), ("tls", "TLS: certificate: hostname mismatch"))
    equal(postfix.count(), 1)


@test
def postfix_with_old_tls_only(t):
    """Nothing that we speak: in the clear, where that may be."""
    settings = {"smtpd_tls_protocols": "TLSv1.1", "smtpd_tls_mandatory_protocols": "TLSv1.1"}
    postfix = Postfix(t, certified=certificate(t, "postfix", ("mx.example",)), settings=settings)
    relay = relay_to(t, postfix)
    relay.send("a@b.example", ["c@d.example"], CONTENT)
    (event,) = relay.wait_outcomes(1)
    equal((event["type"], event["num_attempts"], "tls_cipher" in event), ("Delivery", 1, False))
    equal(counters(relay), (0, 0, 1))
    equal(len(postfix.wait_messages(1)), 1)


@test
def exim_over_tls(t):
    exim = Exim(t, certified=certificate(t, "exim", ("mx.example",)))
    relay = arrives(t, exim)
    equal((counters(relay)[0], counters(relay)[2]), (3, 0))
    equal(exim.log().count(" X=TLS1.3:"), 3, exim.log()[-2000:])


@test
def exim_as_a_smart_host(t):
    """From the first byte, verified, with a name and a password."""
    ca = certificate(t, "authority", ())
    exim = Exim(t, certified=certificate(t, "exim", ("smtp.example",), issuer=ca), implicit=True, account=(NAME, PASSWORD))
    arrives(t, exim, 2, {"tls": {"ca": ca["cert"]}}, tls="implicit", tls_name="smtp.example", user=NAME)
    equal(exim.log().count(" A=plain:" + NAME), 2, exim.log()[-2000:])


if __name__ == "__main__":
    run_all()
