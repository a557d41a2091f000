"""`ringpost ctl` and the API below it, for tests: run, refused, asked for JSON; queues that stand in a known state."""
import http.client
import json
import subprocess

from harness import equal, free_address, free_port, until
from relay import SANITIZER, Ringpost, binary, route

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"
PATIENT = {"queue": {"retry_initial": "1h", "retry_max": "4h"}}  # what failed once does not come again by itself
MANY = 12  # messages: some on each shard, whichever takes them


_release = True


def with_sanitizers():
    """For scripts that are about `ringpost ctl` itself; to others it is a means, and starting it with sanitizers takes four times as long."""
    global _release
    _release = False


def run_ctl(relay, *arguments, where=True):
    """(exit status, output, errors)"""
    command = [binary(release=_release), "ctl"] + (["--http", "%s:%d" % (relay.address, relay.http_port)] if where else []) + list(arguments)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
    errors = done.stderr.decode()
    if SANITIZER.search(errors):
        raise AssertionError("ctl %s: %s" % (arguments, errors[:4000]))
    return done.returncode, done.stdout.decode(), errors


def ctl(relay, *arguments):
    """The text of a command that has to be done."""
    code, output, errors = run_ctl(relay, *arguments)
    equal((code, errors), (0, ""), "ctl %s" % (arguments,))
    return output


def ask(relay, *arguments):
    """Its JSON."""
    return json.loads(ctl(relay, "--json", *arguments))


def refused(relay, status, part, *arguments):
    code, output, errors = run_ctl(relay, *arguments)
    equal((code, output, part in errors), (status, "", True), "ctl %s says %r" % (arguments, errors))


def contains(text, *parts):
    for part in parts:
        if part not in text:
            raise AssertionError("%r is not in:\n%s" % (part, text))


def call(relay, method, path, body=None, kind="application/json"):
    """(status, headers, body) of the API itself."""
    connection = http.client.HTTPConnection(relay.address, relay.http_port, timeout=20)
    headers = {"Content-Type": kind} if kind and body is not None else {}
    connection.request(method, "/api/v1/" + path, body, headers)
    answer = connection.getresponse()
    result = answer.status, answer.headers, answer.read()
    connection.close()
    return result


def domain_row(relay, domain):
    return next((row for row in ask(relay, "queue")["domains"] if row["domain"] == domain), None)


def states(relay, numbers):
    """From the API: who waits for a state asks often, and each `ringpost ctl` is a process."""
    answers = [call(relay, "GET", "message/" + number) for number in numbers]
    equal({status for status, _, _ in answers}, {200}, answers)
    return sorted(json.loads(body)["recipients"][0]["state"] for _, _, body in answers)


def until_states(relay, numbers, *wanted):
    until(lambda: set(states(relay, numbers)) == set(wanted), lambda: "%s; there are %s" % (wanted, states(relay, numbers)))


def send_many(relay, domain, count=MANY):
    return [relay.send("a@sender.example", "r%d@%s" % (i, domain), CONTENT) for i in range(count)]


def dead_site():
    """An address and port at which nobody listens."""
    address = free_address()
    return address, free_port(address)


def blocked(t, config=None):
    """A relay with a site that was tried once in vain, and now is left alone; its name."""
    where = dead_site()
    relay = Ringpost(t, {"routes": [route("dead.example", where)], **PATIENT, **(config or {})})
    relay.send("a@sender.example", "first@dead.example", CONTENT)
    relay.wait_event("TransientFailure")
    site = "%s:%d" % where
    until(lambda: any(row["site"] == site and row["blocked_s"] > 5 for row in ask(relay, "queue", "--sites")["sites"]), "the site to be left alone")
    return relay, where, site
