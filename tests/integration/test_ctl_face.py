"""The face of `ringpost ctl` and of the API below it: what is refused and how, and that what others send is harmless."""
import http.client
import json
import os
import re
import socket

from ctl import CONTENT, PATIENT, ask, call, contains, ctl, refused, run_ctl, until_states, with_sanitizers
from harness import Process, equal, run_all, test, until
from relay import binary, relay_and_mx

with_sanitizers()

# ---- wrong use, errors ----


@test
def wrong_use_is_exit_2(t):
    relay, mx = relay_and_mx(t, PATIENT, script={"RCPT": lambda *_: "451 4.2.1 later"})
    relay.send("a@sender.example", "r@d.example", CONTENT)
    relay.wait_event("TransientFailure")
    for part, arguments in (
        ("a command is missing", []),
        ("there is no command frob", ["frob"]),
        ("unexpected argument c", ["queue", "b", "c"]),
        ("unexpected argument x", ["status", "x"]),
        ("unexpected argument x", ["reload", "x"]),
        ("message needs an ID", ["message"]),
        ("needs one of", ["bounce"]),
        ("needs one of", ["bounce", "d.example", "--all"]),
        ("needs one of", ["retry", "--site", "x", "--message", "1"]),
        ("--reason is not for retry", ["retry", "d.example", "--reason", "x"]),
        ("--for is not for resume", ["resume", "d.example", "--for", "1h"]),
        ("--quiet is not for suspend", ["suspend", "d.example", "--quiet"]),
        ("--limit is not for bounce", ["bounce", "d.example", "--limit", "1"]),
        ("--sites is not for retry", ["retry", "d.example", "--sites"]),
        ("--message is not for suspend", ["suspend", "--message", "1"]),
        ("--all is not for queue", ["queue", "--all"]),
        ("two commands", ["queue", "d.example", "--sites"]),
        ("at most 255", ["queue", "d" * 256]),
        ("--limit abc is no number up to 1000000", ["queue", "--limit", "abc"]),
        ("--limit 1000001 is no number up to 1000000", ["queue", "--sites", "--limit", "1000001"]),
        ("--limit 99999999999999 is no number", ["queue", "--limit", "99999999999999"]),
        ("--limit 10001 is no number up to 10000", ["queue", "d.example", "--limit", "10001"]),
        ("message zz is no id", ["message", "zz"]),
        ("is no id", ["message", "0" * 17]),
        ("--message 1g is no id", ["retry", "--message", "1g"]),
        ("--for 1h30m is no duration (10m, 4h or 2d; 3650d at most)", ["suspend", "d.example", "--for", "1h30m"]),
        ("--for soon is no duration", ["suspend", "d.example", "--for", "soon"]),
        ("--for 0s is no duration", ["suspend", "d.example", "--for", "0s"]),
        ("--for 3651d is no duration", ["suspend", "d.example", "--for", "3651d"]),
        ("a b is no domain", ["suspend", "a b"]),
        ("*.example is no domain", ["resume", "*.example"]),
        ("a?[1m?? is no domain", ["bounce", "a\x1b[1m\u009b"]),
        ("is no name of a site", ["suspend", "--site", "x" * 300]),
        ("--reason takes a line of at most 400 bytes", ["suspend", "d.example", "--reason", "x" * 401]),
        ("without control characters", ["bounce", "--all", "--reason", "two\nlines"]),
        ("without control characters", ["bounce", "--all", "--reason", "ring\x07"]),
        ("without control characters", ["suspend", "d.example", "--reason", "\x7f"]),
        ("--limit -1 is no number", ["queue", "--limit", "-1"]),
        ("--limit  is no number", ["queue", "d.example", "--limit", ""]),
        ("ringpost ctl: unrecognized option '--frob'", ["--frob"]),
        ("ringpost ctl: option '--limit' requires an argument", ["queue", "--limit"]),
        ("no UTF-8", ["suspend", "d.example", "--reason", b"\xff"]),
        ("--frob", ["queue", "--frob"]),
        ("no address", ["--http", "somewhere", "queue"]),
        ("exclude each other", ["--config", relay.config_path, "queue"]),
    ):
        refused(relay, 2, part, *arguments)
        refused(relay, 2, "ringpost ctl: ", *arguments)
    equal(ask(relay, "suspensions")["suspensions"], [])
    equal(os.path.exists(os.path.join(relay.config["spool"]["path"], "suspensions.json")), False)
    for part, arguments in (
        ("ringpost ctl: %s" % t.path("none"), ["--config", t.path("none"), "queue"]),
        ("exit status", ["--help"]),
        ("exit status", ["help"]),
        ("exit status", ["help", "queue"]),
    ):
        code, output, errors = run_ctl(relay, *arguments, where=False)
        equal((code, part in output.lower() + errors), (2 if "--config" in arguments else 0, True), output + errors)
    equal(relay.finals(), [])
    code, output, _ = run_ctl(relay, "--config", relay.config_path, "queue", where=False)
    equal((code, "d.example" in output), (0, True))
    bare = t.write("bare.yaml", "hostname: a.example\nlisteners: [{port: 25}]\n")
    code, _, errors = run_ctl(relay, "--config", bare, "queue", where=False)
    equal((code, "no http.address" in errors), (2, True), errors)
    equal(mx.violations, [])


@test
def a_relay_that_does_not_run_is_exit_1(t):
    relay, _ = relay_and_mx(t)
    relay.stop()
    for arguments in (["queue"], ["suspend", "d.example"], ["--json", "status"]):
        refused(relay, 1, "%s:%d" % (relay.address, relay.http_port), *arguments)


@test
def an_answer_that_is_not_from_the_api(t):
    relay, _ = relay_and_mx(t)
    with socket.socket() as other:
        other.bind((relay.address, 0))
        other.listen()
        where = "%s:%d" % other.getsockname()
        process = Process(t, "ctl", [binary(), "ctl", "--http", where, "queue"])
        connection, _ = other.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.0 500 x\r\n\r\n\x1b]0;x\x07<html>")
        connection.close()
        equal(process.wait(), 1)
        contains(process.log(), "not from its API")


@test
def errors_of_the_api(t):
    relay, _ = relay_and_mx(t)
    for status, method, path, body, kind, part in (
        (404, "GET", "", None, None, "no such thing"),
        (404, "GET", "frob", None, None, "no such thing"),
        (404, "GET", "status/x", None, None, "no such thing"),
        (404, "GET", "statusx", None, None, "no such thing"),
        (404, "POST", "frob", "{}", "application/json", "no such thing"),
        (405, "GET", "bounce", None, None, "POST"),
        (405, "POST", "queue", "{}", "application/json", "GET"),
        (405, "PUT", "queue", "{}", "application/json", "this needs a GET"),
        (405, "DELETE", "message/1", None, None, "this needs a GET"),
        (405, "PUT", "retry", "{}", "text/plain", "this needs a POST"),
        (404, "PUT", "frob", "{}", "application/json", "no such thing"),
        (415, "POST", "bounce", '{"all":true}', "text/plain", "Content-Type"),
        (415, "POST", "bounce", '{"all":true}', "application/x-www-form-urlencoded", "Content-Type"),
        (415, "POST", "bounce", '{"all":true}', "", "Content-Type"),
        (400, "POST", "bounce", "{", "application/json", "no JSON"),
        (400, "POST", "bounce", "[1]", "application/json", "no JSON object"),
        (400, "POST", "bounce", "\xff", "application/json", "no JSON"),
        (400, "POST", "bounce", '{"all":true,"all":true}', "application/json", "twice: duplicate object key near '\"all\"'"),
        (400, "POST", "bounce", "", "application/json", "exactly one"),
        (400, "POST", "bounce", '{"all":false}', "application/json", '"all" has to be true'),
        (400, "POST", "bounce", '{"all":1}', "application/json", '"all" has to be true'),
        (400, "POST", "bounce", '{"domain":12}', "application/json", '"domain" has to be a string'),
        (400, "POST", "bounce", '{"domain":null}', "application/json", '"domain" has to be a string'),
        (400, "POST", "bounce", '{"domain":""}', "application/json", '"domain" has to be a string, a domain like'),
        (400, "POST", "bounce", json.dumps({"domain": "d" * 256}), "application/json", '"domain" has to be'),
        (400, "POST", "retry", '{"site":[]}', "application/json", '"site" has to be a string'),
        (400, "POST", "retry", '{"message":5}', "application/json", '"message" has to be a string'),
        (400, "POST", "suspend", '{"all":true,"for":5}', "application/json", '"for" has to be a string, a duration'),
        (400, "POST", "bounce", '{"domain":"d.example","site":"x"}', "application/json", "exactly one"),
        (400, "POST", "bounce", '{"all":true,"quiet":1}', "application/json", "quiet"),
        (400, "POST", "bounce", '{"all":true,"reason":5}', "application/json", "reason"),
        (400, "POST", "bounce", '{"all":true,"\\u001b\\u009b":5}', "application/json", "is no key of this"),
        (400, "POST", "retry", '{"all":true,"quiet":true}', "application/json", '"quiet" is no key of this: there are domain, site, message, all'),
        (400, "POST", "suspend", '{"message":"1"}', "application/json", "cannot be suspended"),
        (400, "POST", "resume", '{"message":"1"}', "application/json", "cannot be suspended"),
        (400, "GET", "queue?by=colour", None, None, "domain or site"),
        (400, "GET", "queue?limit=-1", None, None, "limit"),
        (400, "GET", "queue?limit=", None, None, "limit"),
        (400, "GET", "queue?limit=1000001", None, None, "limit has to be a number up to 1000000"),
        (400, "GET", "queue/d.example?limit=10001", None, None, "limit has to be a number up to 10000"),
        (400, "POST", "suspend", '{"all":true,"for":"soon"}', "application/json", '"for" has to be a string, a duration'),
        (400, "POST", "suspend", '{"all":true,"for":"0s"}', "application/json", '"for" has to be a string, a duration'),
        (400, "POST", "suspend", '{"all":true,"for":"3651d"}', "application/json", "of 3650d at most"),
        (400, "POST", "suspend", json.dumps({"site": "x" * 300}), "application/json", '"site" has to be a string'),
        (400, "POST", "suspend", '{"domain":"a b"}', "application/json", '"domain" has to be'),
        (400, "POST", "bounce", json.dumps({"all": True, "reason": "x" * 401}), "application/json", '"reason" has to be a string, a line of at most 400'),
        (400, "POST", "bounce", '{"all":true,"reason":"ring\\u0007"}', "application/json", "without control characters"),
        (400, "POST", "bounce", '{"all":true,"reason":"\\u007f"}', "application/json", "without control characters"),
        (400, "POST", "suspend", '{"all":true,"reason":"two\\nlines"}', "application/json", "without control characters"),
        (400, "GET", "message/" + "0" * 17, None, None, "16 hexadecimal"),
        (413, "POST", "bounce", '{"all":true' + " " * 65536 + "}", "application/json", "64 KiB"),
    ):
        body = body.encode("latin-1") if body is not None else None
        got, headers, text = call(relay, method, path, body, kind)
        equal((got, part in json.loads(text)["error"]), (status, True), "%s %s %r: %s" % (method, path, (body or b"")[:60], text[:200]))
        equal((headers["Content-Type"], headers["Cache-Control"]), ("application/json; charset=utf-8", "no-store"))
        equal(headers["Allow"], None if status != 405 else "POST" if path in ("bounce", "retry") else "GET, HEAD")
    equal(call(relay, "POST", "bounce", b'{"all":true' + b" " * 65000 + b"}")[0], 200)
    equal(call(relay, "POST", "retry", b'{"all":true}', "Application/JSON; charset=utf-8")[0], 200)
    status, headers, body = call(relay, "HEAD", "queue")
    equal((status, int(headers["Content-Length"]) > 10, body), (200, True, b""))
    equal(call(relay, "GET", "queue?by=site&limit=1&other=2")[0], 200)
    equal(call(relay, "GET", "queue/" + "d" * 256)[0], 400)
    equal(relay.tally(), {})


@test
def health_and_metrics_do_not_wait_for_the_api(t):
    """Many at once: each is answered, or told that the relay is busy."""
    relay, _ = relay_and_mx(t)
    connections = []
    for _ in range(50):
        connection = http.client.HTTPConnection(relay.address, relay.http_port, timeout=30)
        connection.request("GET", "/api/v1/queue")
        connections.append(connection)
    equal(relay.health()[0], 200)
    equal({connection.getresponse().status for connection in connections} <= {200, 503}, True)
    for connection in connections:
        connection.close()


@test
def numbers_are_exact(t):
    """Times are milliseconds: no digits beyond, however they are added up, and what is written is read back the same."""
    relay, _ = relay_and_mx(t, PATIENT, script={"RCPT": lambda *_: "451 4.2.1 later"})
    for i in range(30):
        ctl(relay, "suspend", "d%d.example" % i, "--for", "%dms" % (3600000 + i))
    relay.send("a@sender.example", ["r%d@e.example" % i for i in range(20)], CONTENT)
    relay.wait_event("TransientFailure")
    for path in ("status", "queue", "queue?by=site", "queue/e.example", "suspensions"):
        noisy = re.findall(rb"\d+\.\d{4,}", call(relay, "GET", path)[2])
        equal(noisy, [], path)
    before = {one["domain"]: one for one in ask(relay, "suspensions")["suspensions"]}
    for i in range(30):
        one = before["d%d.example" % i]
        equal(round((one["until"] - one["since"]) * 1000), 3600000 + i)
    for _ in range(2):
        relay.stop()
        relay.start()
        ctl(relay, "suspend", "again.example")  # all are written anew
        equal({one["domain"]: one for one in ask(relay, "suspensions")["suspensions"] if one["domain"] in before}, before)


# ---- what others send ----


@test
def hostile_text_is_harmless(t):
    """Control characters of both kinds and such as turn text round: in replies, addresses, reasons."""
    reply = "451 4.2.1 \x1b[31m\x9b32m \u202eback\u2066 \x7f\udcff caf\u00e9"
    relay, _ = relay_and_mx(t, PATIENT, script={"RCPT": lambda *_: reply}, lawful=False)
    local = "j\u00fcrgen\u009b33m\u202e"
    number = relay.send("\u00fc@sender.example", local + "@d.example", CONTENT, "SMTPUTF8")
    relay.wait_event("TransientFailure")
    until_states(relay, [number], "deferred")
    ctl(relay, "suspend", "other.example.", "--reason", "\u009b[5m \u202e \u7b49")
    for name in ("other\x1b[1m\u009b.example", "*.example", "a@b.example"):
        code, _, errors = run_ctl(relay, "suspend", name)
        equal((code, "\x1b" in errors), (2, False), name)
    for arguments in (["queue"], ["queue", "--sites"], ["queue", "d.example"], ["message", number], ["suspensions"], ["queue", "other.example"]):
        text = ctl(relay, *arguments)
        bad = [c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c in "\u202e\u2066"]
        equal(bad, [], "%s: %r" % (arguments, text))
        raw = ctl(relay, "--json", *arguments)
        equal((raw.isascii(), "\x1b" in raw, isinstance(json.loads(raw), dict)), (True, False, True))
    contains(ctl(relay, "message", number), "j\u00fcrgen?33m?@d.example", "<\u00fc@sender.example>", "caf\u00e9")
    contains(ctl(relay, "suspensions"), "other.example", "?[5m ? \u7b49")
    equal(ask(relay, "message", number)["recipients"][0]["recipient"], local + "@d.example")
    code, _, errors = run_ctl(relay, "queue", "\x1b[1m\u009b")
    equal((code, "\x1b" in errors or "\u009b" in errors), (1, False), errors)


@test
def tables_stay_straight(t):
    relay, _ = relay_and_mx(t, PATIENT, script={"RCPT": lambda *_: "451 4.2.1 later"})
    relay.send("a@sender.example", ["a@d.example", "b@a-longer-name.example", "c@x.example"], CONTENT)
    until(lambda: len(relay.events("TransientFailure")) == 3, "all to be put off")
    lines = ctl(relay, "queue").splitlines()[:4]
    equal({line.index("451 4.2.1") for line in lines[1:]}, {lines[0].index("LAST ERROR")})
    equal({line[: lines[0].index("DEFERRED") + 8].rstrip()[-1] for line in lines[1:]}, {"1"})


run_all()
