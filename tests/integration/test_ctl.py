"""`ringpost ctl` and the API below it, with two shards: what is seen of the queue, and what is done to it."""
import http.client
import json
import os
import signal
import socket
import subprocess
import time

from fakemx import FakeMx, Silence
from harness import Process, equal, free_address, free_port, run_all, run_program, test, until
from relay import SANITIZER, Ringpost, binary, relay_and_mx, route

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"
PATIENT = {"queue": {"retry_initial": "1h", "retry_max": "4h"}}  # what failed once does not come again by itself
MANY = 12  # messages: some on each shard, whichever takes them


def run_ctl(relay, *arguments, where=True):
    """(exit status, output, errors)"""
    command = [binary(), "ctl"] + (["--http", "%s:%d" % (relay.address, relay.http_port)] if where else []) + list(arguments)
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
    return sorted(ask(relay, "message", number)["recipients"][0]["state"] for number in numbers)


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


# ---- what there is ----


@test
def an_empty_queue(t):
    relay, _ = relay_and_mx(t)
    contains(ctl(relay, "queue"), "DOMAIN", "0 domains: 0 ready, 0 in flight, 0 deferred")
    contains(ctl(relay, "queue", "--sites"), "0 sites")
    contains(ctl(relay, "suspensions"), "nothing is suspended")
    contains(ctl(relay, "status"), "2 shards", "messages queued")
    equal(ask(relay, "queue"), {"total": {"count": 0, "ready": 0, "in_flight": 0, "deferred": 0, "oldest": None}, "domains": [], "unloaded": 0, "suspensions": []})
    status = ask(relay, "status")
    equal((status["shards"], status["messages_received"], status["suspensions"]), (2, 0, 0))
    refused(relay, 1, "no mail for d.example", "queue", "d.example")


@test
def what_is_deferred(t):
    relay, mx = relay_and_mx(t, PATIENT, script={"RCPT": lambda *_: "451 4.2.1 later, please"})
    numbers = send_many(relay, "D.example")
    site = "%s:%d" % (mx.address, mx.port)
    until(lambda: len(relay.events("TransientFailure")) == MANY, "all to be put off")
    until_states(relay, numbers, "deferred")
    row = domain_row(relay, "d.example")
    equal((row["ready"], row["in_flight"], row["deferred"], row["site"], row["suspended"]), (0, 0, MANY, site, False))
    equal(row["last_error"], "451 4.2.1 later, please")
    equal(abs(row["oldest"] - time.time()) < 60 and abs(row["last_error_at"] - time.time()) < 60, True, row)
    contains(ctl(relay, "queue"), "d.example", site, "451 4.2.1 later, please", "1 domains: 0 ready, 0 in flight, %d deferred" % MANY)
    one = ask(relay, "queue", "d.EXAMPLE")
    equal((one["deferred"], one["ready_or_in_flight"], one["site"]["name"], len(one["messages"])), (MANY, 0, site, MANY))
    equal(one["site"]["hosts"][0]["address"], site)
    equal({message["id"] for message in one["messages"]}, set(numbers))
    contains(ctl(relay, "queue", "d.example"), "d.example: %d deferred" % MANY, site, numbers[0], "a@sender.example", "r0@D.example", "196B")
    contains(ctl(relay, "queue", "d.example", "--limit", "1"), "r")
    equal(len(ask(relay, "queue", "d.example", "--limit", "5")["messages"]), 5)
    message = ask(relay, "message", numbers[3])
    recipient = message["recipients"][0]
    equal((message["id"], message["sender"], message["size"] > 0, message["stored"]), (numbers[3], "a@sender.example", True, True))
    equal((recipient["recipient"], recipient["state"], recipient["attempts"], recipient["site"]), ("r3@D.example", "deferred", 1, site))
    equal(3200 < recipient["next_try"] - time.time() < 4100, True, recipient)
    contains(ctl(relay, "message", numbers[3].upper()), numbers[3], "<r3@D.example> deferred, 1 attempts, next try in ", "last error of its domain: 451 4.2.1 later")
    equal(ask(relay, "queue", "--limit", "0")["domains"], [])


@test
def the_largest_domains_come_first(t):
    relay, _ = relay_and_mx(t, PATIENT, script={"RCPT": lambda *_: "451 4.2.1 later"})
    for i in range(6):
        relay.send("a@sender.example", ["r%d@d%d.example" % (r, i) for r in range(i + 1)], CONTENT)
    until(lambda: len(relay.events("TransientFailure")) == 21, "all to be put off")
    answer = ask(relay, "queue", "--limit", "3")
    equal([(row["domain"], row["deferred"]) for row in answer["domains"]], [("d5.example", 6), ("d4.example", 5), ("d3.example", 4)])
    equal((answer["total"]["count"], answer["total"]["deferred"]), (6, 21))
    contains(ctl(relay, "queue", "--limit", "3"), "the largest 3 are shown")


@test
def what_is_ready_behind_a_blocked_site(t):
    relay, _, site = blocked(t)
    numbers = send_many(relay, "dead.example")
    until_states(relay, numbers, "ready")
    row = domain_row(relay, "dead.example")
    equal((row["ready"], row["in_flight"], row["deferred"]), (MANY, 0, 1))
    sites = {one["site"]: one for one in ask(relay, "queue", "--sites")["sites"]}
    equal((sites[site]["ready"], sites[site]["connections"], sites[site]["last_error"] is not None), (MANY, 0, True))
    for number in numbers:
        contains(ask(relay, "message", number)["recipients"][0]["why"], "waits for a connection to " + site, "left alone for another")
    contains(ctl(relay, "message", numbers[0]), "> ready, 0 attempts\n", "left alone for another")
    contains(ctl(relay, "queue", "--sites"), site, "1 sites")
    contains(ctl(relay, "queue", "dead.example"), "failed 1 times in a row")
    equal(len(ask(relay, "queue", "dead.example")["messages"]), MANY + 1)


@test
def what_is_in_flight(t):
    relay, mx = relay_and_mx(t, PATIENT, script={"FINAL": Silence()})
    number = relay.send("a@sender.example", "r@d.example", CONTENT)
    until(lambda: mx.contents, "the content to be there")
    until(lambda: "waits for the answer to" in ask(relay, "message", number)["recipients"][0].get("why", ""), "it to be in flight")
    contains(ctl(relay, "message", number), "in flight to", "[%s]" % mx.address, "for at most")
    row = domain_row(relay, "d.example")
    equal((row["ready"], row["in_flight"], row["deferred"]), (0, 1, 0))
    equal(ask(relay, "queue", "--sites")["sites"][0]["in_flight"], 1)
    equal(ask(relay, "bounce", "d.example"), {"bounced": 0, "in_delivery": 1, "unloaded": 0})
    equal(ask(relay, "bounce", "--message", number), {"bounced": 0, "in_delivery": 1, "unloaded": 0})
    contains(ctl(relay, "retry", "d.example"), "retried: 0; 1 were ready or in flight already")
    equal(relay.finals(), [])
    mx.hang_up()


@test
def what_waits_for_dns(t):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        address = free_address()
        silent.bind((address, 0))
        relay = Ringpost(t, {"dns": {"servers": ["%s:%d" % silent.getsockname()], "timeout": "5s"}, **PATIENT})
        number = relay.send("a@sender.example", "r@d.example", CONTENT)
        equal(ask(relay, "message", number)["recipients"][0]["why"], "waits for the MX of its domain")
        equal(domain_row(relay, "d.example")["ready"], 1)
        contains(ctl(relay, "queue", "d.example"), "0 deferred, 1 ready or in flight", "site: not known now")
        ctl(relay, "suspend", "d.example")  # the stop at the end need not wait for the answer


@test
def a_message_that_is_unknown(t):
    relay, mx = relay_and_mx(t)
    number = relay.send("a@sender.example", "r@d.example", CONTENT)
    mx.wait_recipients(1)
    until(lambda: run_ctl(relay, "message", number)[0] == 1, "it to be gone")
    refused(relay, 1, "there is no such message", "message", number)
    refused(relay, 1, "there is no such message", "bounce", "--message", "123")
    refused(relay, 1, "16 hexadecimal digits", "message", "xyz")
    refused(relay, 1, "16 hexadecimal digits", "message", "0" * 17)
    refused(relay, 1, "exactly one of", "retry", "--message", "no id")


@test
def some_recipients_have_ended(t):
    """Of a message of which others wait; what is known of their domains may be gone."""
    relay, _ = relay_and_mx(t, PATIENT, script={"RCPT": lambda _, to: "451 4.2.1 later" if to.startswith("later") else None})
    number = relay.send("a@sender.example", ["now@one.example", "later@two.example"], CONTENT)
    relay.wait_event("TransientFailure")
    relay.wait_outcomes(1)
    until(lambda: [one["state"] for one in ask(relay, "message", number)["recipients"]] == ["done", "deferred"], "one to be done")
    equal([one["site"] is None for one in ask(relay, "message", number)["recipients"]], [True, False])
    equal(domain_row(relay, "one.example"), None)


# ---- retry ----


@test
def a_retry_forgets_that_the_site_failed(t):
    """What was put off, and what is ready behind the site, by each way to say it."""
    for i, what in enumerate((["dead.example"], ["--site", "SITE"], ["--message", "ID"], ["--all"])):
        relay, where, site = blocked(t)
        first = relay.events("Reception")[0]["id"]
        ready = send_many(relay, "dead.example") if i % 2 == 0 else []
        until_states(relay, ready + [first], *(["deferred", "ready"] if ready else ["deferred"]))
        mx = FakeMx(t, *where)
        started = time.monotonic()
        answer = ask(relay, "retry", *[{"SITE": site.upper(), "ID": first}.get(word, word) for word in what])
        equal(answer["retried"], 1, what)
        mx.wait_recipients(1 + len(ready))
        equal(time.monotonic() - started < 12, True, "the site was tried at once")
        relay.wait_outcomes(1 + len(ready))
        equal(sorted(mx.recipients), sorted(["first@dead.example"] + ["r%d@dead.example" % r for r in range(len(ready))]))
        relay.stop()


@test
def a_retry_of_what_is_only_ready(t):
    where = dead_site()
    relay = Ringpost(t, {"routes": [route("dead.example", where), route("other.example", where)], **PATIENT})
    relay.send("a@sender.example", "first@other.example", CONTENT)
    relay.wait_event("TransientFailure")
    numbers = send_many(relay, "dead.example")
    until_states(relay, numbers, "ready")
    mx = FakeMx(t, *where)
    equal(ask(relay, "retry", "dead.example"), {"retried": 0, "in_delivery": MANY, "unloaded": 0})
    mx.wait_recipients(MANY, 12)
    relay.wait_outcomes(MANY)
    equal(states(relay, [relay.events("Reception")[0]["id"]]), ["deferred"])


@test
def a_retry_of_many(t):
    answers = {"RCPT": lambda *_: "451 4.2.1 later"}
    relay, mx = relay_and_mx(t, PATIENT, script=answers)
    for i in range(3):
        relay.send("a@sender.example", ["r%d@d%d.example" % (r, r % 3) for r in range(i * 300, i * 300 + 300)], CONTENT)
    until(lambda: relay.metrics()["ringpost_deferred_recipients"] == 900, "all to be put off")
    mx.script = {}
    equal(ask(relay, "retry", "d1.example")["retried"], 300)
    mx.wait_recipients(300)
    equal(ask(relay, "retry", "--all")["retried"], 600)
    relay.wait_outcomes(900)
    equal(len(set(mx.recipients)), 900)
    contains(ctl(relay, "retry", "--all"), "retried: 0")


# ---- bounce ----


@test
def a_bounce_ends_each_once(t):
    """Put off and ready, on both shards; senders get a report."""
    sender_mx = FakeMx(t, *dead_site())
    where = dead_site()
    relay = Ringpost(
        t, {"routes": [route("dead.example", where), route("sender.example", (sender_mx.address, sender_mx.port))], "dsn": {"send": True}, **PATIENT}
    )
    relay.send("a@sender.example", ["one@dead.example", "two@dead.example"], CONTENT)
    until(lambda: len(relay.events("TransientFailure")) == 2, "both to be put off")
    numbers = send_many(relay, "dead.example")
    until_states(relay, numbers, "ready")
    contains(ctl(relay, "bounce", "Dead.Example", "--reason", "the domain is gone"), "bounced: %d\n" % (2 + MANY))
    relay.wait_outcomes(2 + MANY)
    sender_mx.wait_recipients(2 + MANY)
    relay.wait_outcomes(2 * (2 + MANY))
    bounces = relay.events("AdminBounce")
    equal({(event["response"]["content"], event["queue"]) for event in bounces}, {("the domain is gone", "dead.example")})
    equal(len({(event["id"], event["recipient"]) for event in bounces}), 2 + MANY)
    report = next(one for one in sender_mx.messages if b"one@dead.example" in one.content)
    equal((report.sender, report.recipients, b"the domain is gone" in report.content), ("", ["a@sender.example"], True))
    until(lambda: domain_row(relay, "dead.example") is None, "nothing to be left")
    equal(ask(relay, "queue")["suspensions"], [])
    relay.stop()
    relay.start()
    equal(ask(relay, "queue")["total"]["count"], 0)


@test
def a_quiet_bounce_of_all(t):
    relay, _, _ = blocked(t, {"dsn": {"send": True}})
    send_many(relay, "dead.example")
    until(lambda: domain_row(relay, "dead.example")["ready"] == MANY, "all to be ready")
    equal(ask(relay, "bounce", "--all", "--quiet"), {"bounced": 1 + MANY, "in_delivery": 0, "unloaded": 0})
    relay.wait_outcomes(1 + MANY)
    equal(relay.tally(), {"Reception": 1 + MANY, "TransientFailure": 1, "AdminBounce": 1 + MANY})
    equal(relay.events("AdminBounce")[0]["response"]["content"], "given up by the postmaster")


@test
def a_bounce_of_all_spares_its_own_reports(t):
    relay, _, site = blocked(t, {"dsn": {"send": True}})
    ctl(relay, "suspend", "sender.example")
    for i in range(4):
        relay.send("a%d@sender.example" % i, ["r%d-%d@dead.example" % (i, r) for r in range(400)], CONTENT)
    until(lambda: domain_row(relay, "dead.example")["ready"] == 1600, "all to be ready")
    equal(ask(relay, "bounce", "--all")["bounced"], 1601)
    relay.wait_outcomes(1601)
    until(lambda: (domain_row(relay, "sender.example") or {"deferred": 0})["deferred"] >= 5, "the reports")
    equal({event["queue"] for event in relay.events("AdminBounce")}, {"dead.example"})
    equal(ask(relay, "bounce", "--site", site)["bounced"], 0)


@test
def a_bounce_of_a_site_and_of_a_message(t):
    relay, _, site = blocked(t)
    numbers = send_many(relay, "dead.example", 3)
    first = relay.events("Reception")[0]["id"]
    until_states(relay, numbers, "ready")
    equal(ask(relay, "bounce", "--message", first), {"bounced": 1, "in_delivery": 0, "unloaded": 0})
    relay.wait_event("AdminBounce", "first@dead.example")
    equal(ask(relay, "bounce", "--message", numbers[0]), {"bounced": 1, "in_delivery": 0, "unloaded": 0})  # ready: it is called back
    equal(ask(relay, "bounce", "--site", site), {"bounced": 2, "in_delivery": 0, "unloaded": 0})
    relay.wait_outcomes(4)
    equal(len(relay.events("AdminBounce")), 4)
    equal(ask(relay, "bounce", "nowhere.example"), {"bounced": 0, "in_delivery": 0, "unloaded": 0})


# ---- suspend, resume ----


@test
def what_is_suspended_is_kept_and_then_delivered_once(t):
    """By each way to say it; nothing is tried, what comes meanwhile is taken."""
    for what in (["d.example"], ["--site", "SITE"], ["--all"]):
        relay, mx = relay_and_mx(t, {"shards": 2, "delivery": {"idle": "300ms"}})
        site = "%s:%d" % (mx.address, mx.port)
        words = [site if word == "SITE" else word for word in what]
        contains(ctl(relay, "suspend", "--reason", "they move", *words), "suspended:", "until resumed: they move")
        numbers = send_many(relay, "D.example")
        until_states(relay, numbers, "suspended")
        equal(mx.connections, 0)
        equal(relay.metrics()["ringpost_held_recipients"], MANY)
        row = domain_row(relay, "d.example")
        equal((row["suspended"], row["deferred"], row["ready"]), (True, MANY, 0))
        contains(ctl(relay, "queue"), "suspended:", "they move", "yes")
        message = ask(relay, "message", numbers[0])["recipients"][0]
        equal((message["next_try"], message["attempts"], "suspended" in message["why"]), (None, 0, True))
        contains(ctl(relay, "queue", "d.example"), "; suspended: they move")
        equal(len(ask(relay, "suspensions")["suspensions"]), 1)
        ask(relay, "retry", "--all")  # does not get through
        until_states(relay, numbers, "suspended")
        contains(ctl(relay, "resume", *words), "resumed: 1")
        relay.wait_outcomes(MANY)
        equal(sorted(mx.recipients), sorted("r%d@D.example" % i for i in range(MANY)))
        equal((relay.metrics()["ringpost_held_recipients"], relay.tally().get("TransientFailure")), (0, None))
        contains(ctl(relay, "suspensions"), "nothing is suspended")
        relay.stop()


@test
def only_what_is_suspended_waits(t):
    relay, mx = relay_and_mx(t)
    ctl(relay, "suspend", "one.example")
    number = relay.send("a@sender.example", ["a@one.example", "b@two.example", "c@ONE.example", "d@three.example"], CONTENT)
    mx.wait_recipients(2)
    equal(sorted(mx.recipients), ["b@two.example", "d@three.example"])
    equal([one["state"] for one in ask(relay, "message", number)["recipients"]][::2], ["suspended", "suspended"])
    refused(relay, 1, "two.example is not suspended", "resume", "two.example")
    equal(ask(relay, "resume", "--all"), {"resumed": 1})
    relay.wait_outcomes(4)
    equal(ask(relay, "resume", "--all"), {"resumed": 0})


@test
def what_was_ready_is_called_back(t):
    """Also what is at the site's home on another shard, and of several domains in one message."""
    where = dead_site()
    relay = Ringpost(t, {"routes": [route("*", where)], **PATIENT})
    relay.send("a@sender.example", "first@x.example", CONTENT)
    relay.wait_event("TransientFailure")
    mixed = [relay.send("a@sender.example", ["a@one.example", "b@two.example", "c@one.example"], CONTENT) for _ in range(MANY)]
    until(lambda: (domain_row(relay, "one.example") or {"ready": 0})["ready"] == 2 * MANY, "all to be ready")
    ctl(relay, "suspend", "one.example")
    until(lambda: domain_row(relay, "one.example")["deferred"] == 2 * MANY, "those to be home")
    until(lambda: domain_row(relay, "two.example")["ready"] == MANY, "the others to be ready again")
    mx = FakeMx(t, *where)
    ask(relay, "retry", "--all")
    relay.wait_outcomes(1 + MANY)
    equal(sorted(set(mx.recipients)), ["b@two.example", "first@x.example"])
    equal([[one["state"] for one in ask(relay, "message", number)["recipients"]] for number in mixed], [["suspended", "done", "suspended"]] * MANY)
    ctl(relay, "resume", "one.example")
    relay.wait_outcomes(1 + 3 * MANY)
    equal(len(mx.recipients), 1 + 3 * MANY)


@test
def suspensions_survive_a_restart(t):
    """In an orderly way and by kill -9; so do those of a site, before it is known which domains are its own."""
    for durability in ("sync", "memory"):
        relay, mx = relay_and_mx(t, {"spool": {"durability": durability}})
        site = "%s:%d" % (mx.address, mx.port)
        ctl(relay, "suspend", "--site", site, "--reason", "caf\u00e9 closed")
        numbers = send_many(relay, "d.example")
        until_states(relay, numbers, "suspended")
        relay.stop()
        relay.start()
        until_states(relay, numbers, "suspended")
        equal([(one["site"], one["reason"]) for one in ask(relay, "suspensions")["suspensions"]], [(site, "caf\u00e9 closed")])
        until(lambda one=relay: one.metrics()["ringpost_held_recipients"] == MANY, "all to be suspended again")
        relay.kill9()
        relay.start()
        until_states(relay, numbers, "suspended")
        free = relay.send("a@sender.example", "r@other.example", CONTENT)
        until_states(relay, [free], "suspended")
        equal(mx.connections, 0)
        equal(ask(relay, "resume", "--site", site), {"resumed": 1})
        mx.wait_recipients(MANY + 1)
        equal(len(mx.recipients), MANY + 1)
        relay.stop()
        relay.start()
        equal(ask(relay, "suspensions")["suspensions"], [])


@test
def a_restart_begins_nothing_that_is_suspended(t):
    """What comes back from disk goes if it is not suspended, and only then."""
    relay, mx = relay_and_mx(t)
    ctl(relay, "suspend", "--all")
    send_many(relay, "one.example")
    send_many(relay, "two.example")
    ctl(relay, "suspend", "one.example")
    equal(ask(relay, "resume", "--all"), {"resumed": 2})
    mx.wait_recipients(2 * MANY)
    ctl(relay, "suspend", "--all")
    numbers = send_many(relay, "one.example") + send_many(relay, "two.example")
    until_states(relay, numbers, "suspended")
    relay.stop()
    with open(os.path.join(relay.config["spool"]["path"], "suspensions.json"), "w", encoding="utf-8") as file:
        json.dump([{"domain": "One.Example"}], file)
    relay.start()
    relay.wait_outcomes(3 * MANY)
    until_states(relay, numbers[:MANY], "suspended")
    equal(sum(recipient.endswith("one.example") for recipient in mx.recipients), MANY)
    ctl(relay, "resume", "one.example")
    relay.wait_outcomes(4 * MANY)
    equal(len(mx.recipients), 4 * MANY)


@test
def a_suspension_for_a_time_ends_by_itself(t):
    relay, mx = relay_and_mx(t)
    answer = ask(relay, "suspend", "d.example", "--for", "3s", "--reason", "")
    equal((answer["domain"], answer["reason"], 2 < answer["until"] - answer["since"] < 4), ("d.example", "", True))
    contains(ctl(relay, "suspensions"), "d.example", "for another")
    number = relay.send("a@sender.example", "r@d.example", CONTENT)
    until(lambda: states(relay, [number]) == ["suspended"], "it to be suspended")
    event = relay.wait_event("Delivery")
    equal(event["timestamp"] >= answer["until"] - 0.01 and event["timestamp"] < answer["until"] + 5, True, event)
    equal((len(mx.messages), ask(relay, "suspensions")["suspensions"]), (1, []))
    ctl(relay, "suspend", "d.example", "--for", "1s")
    ctl(relay, "suspend", "d.example")  # the last word counts
    time_over = time.time() + 2.5
    until(lambda: time.time() > time_over, "its first time to be over")
    equal(len(ask(relay, "suspensions")["suspensions"]), 1)


@test
def what_is_suspended_still_gets_too_old(t):
    relay, mx = relay_and_mx(t, {"queue": {"max_age": "4s"}})
    ctl(relay, "suspend", "d.example")
    sent = time.time()
    send_many(relay, "d.example")
    relay.wait_outcomes(MANY)
    equal({event["type"] for event in relay.finals()}, {"Expiration"})
    equal(min(event["timestamp"] for event in relay.finals()) >= sent + 3.9, True)
    equal((mx.connections, relay.metrics()["ringpost_held_recipients"]), (0, 0))


@test
def suspended_and_resumed_in_quick_succession(t):
    """Under load, over and over: each is delivered once, and nothing stays behind."""
    relay, mx = relay_and_mx(t, {"delivery": {"connections_per_site": 3}})
    numbers = 0
    for i in range(25):
        for what in (["d.example"], ["--all"]):
            relay.send("a@sender.example", ["r%d-%d@%s.example" % (numbers, r, "de"[r % 2]) for r in range(20)], CONTENT)
            numbers += 1
            ctl(relay, "suspend", *what)
            relay.send("a@sender.example", ["r%d-%d@%s.example" % (numbers, r, "de"[r % 2]) for r in range(20)], CONTENT)
            numbers += 1
            ctl(relay, "resume", *what)
    relay.wait_outcomes(20 * numbers)
    equal((len(mx.recipients), len(set(mx.recipients))), (20 * numbers, 20 * numbers))
    equal(relay.tally().get("TransientFailure"), None)


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
        ("no UTF-8", ["suspend", "d.example", "--reason", b"\xff"]),
        ("--frob", ["queue", "--frob"]),
        ("no address", ["--http", "somewhere", "queue"]),
        ("exclude each other", ["--config", relay.config_path, "queue"]),
    ):
        refused(relay, 2, part, *arguments)
    for part, arguments in (("not found", ["--config", t.path("none"), "queue"]), ("exit status", ["--help"])):
        code, output, errors = run_ctl(relay, *arguments, where=False)
        equal((code, part in (output + errors).lower()), (2 if part == "not found" else 0, True), output + errors)
    equal(relay.finals(), [])
    code, output, _ = run_ctl(relay, "--config", relay.config_path, "queue", where=False)
    equal((code, "d.example" in output), (0, True))
    bare = t.write("bare.yaml", "hostname: a.example\nlisteners: [{port: 25}]\n")
    code, _, errors = run_ctl(relay, "--config", bare, "queue", where=False)
    equal((code, "no http.address" in errors), (2, True), errors)
    equal(mx.violations, [])


@test
def values_the_relay_refuses_are_exit_1(t):
    relay, _ = relay_and_mx(t)
    refused(relay, 1, "limit has to be a number", "queue", "--limit", "x")
    refused(relay, 1, "limit has to be a number up to 1000000", "queue", "--limit", "1000001")
    refused(relay, 1, "limit has to be a number up to 10000", "queue", "d.example", "--limit", "10001")
    refused(relay, 1, '"for" has to be a duration', "suspend", "d.example", "--for", "soon")
    refused(relay, 1, '"for" has to be a duration', "suspend", "d.example", "--for", "0s")
    refused(relay, 1, '"reason" has to be a line', "suspend", "d.example", "--reason", "x" * 401)
    refused(relay, 1, '"reason" has to be a line', "bounce", "--all", "--reason", "two\nlines")
    refused(relay, 1, "exactly one of", "suspend", "--site", "x" * 300)
    equal(ask(relay, "suspensions")["suspensions"], [])
    equal(os.path.exists(os.path.join(relay.config["spool"]["path"], "suspensions.json")), False)


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
        (405, "PUT", "queue", "{}", "application/json", "not allowed"),
        (405, "DELETE", "message/1", None, None, "not allowed"),
        (415, "POST", "bounce", '{"all":true}', "text/plain", "Content-Type"),
        (415, "POST", "bounce", '{"all":true}', "application/x-www-form-urlencoded", "Content-Type"),
        (415, "POST", "bounce", '{"all":true}', "", "Content-Type"),
        (400, "POST", "bounce", "{", "application/json", "no JSON"),
        (400, "POST", "bounce", "[1]", "application/json", "no JSON object"),
        (400, "POST", "bounce", "\xff", "application/json", "no JSON"),
        (400, "POST", "bounce", '{"all":true,"all":true}', "application/json", "no JSON"),
        (400, "POST", "bounce", "", "application/json", "exactly one"),
        (400, "POST", "bounce", '{"all":false}', "application/json", "exactly one"),
        (400, "POST", "bounce", '{"all":1}', "application/json", "exactly one"),
        (400, "POST", "bounce", '{"domain":1}', "application/json", "exactly one"),
        (400, "POST", "bounce", '{"domain":""}', "application/json", "exactly one"),
        (400, "POST", "bounce", json.dumps({"domain": "d" * 256}), "application/json", "exactly one"),
        (400, "POST", "bounce", '{"domain":"d.example","site":"x"}', "application/json", "exactly one"),
        (400, "POST", "bounce", '{"all":true,"quiet":1}', "application/json", "quiet"),
        (400, "POST", "bounce", '{"all":true,"reason":5}', "application/json", "reason"),
        (400, "POST", "bounce", '{"all":true,"\\u001b\\u009b":5}', "application/json", "is no key of this"),
        (400, "POST", "retry", '{"all":true,"quiet":true}', "application/json", '"quiet" is no key of this'),
        (400, "POST", "suspend", '{"message":"1"}', "application/json", "cannot be suspended"),
        (400, "POST", "resume", '{"message":"1"}', "application/json", "cannot be suspended"),
        (400, "GET", "queue?by=colour", None, None, "domain or site"),
        (400, "GET", "queue?limit=-1", None, None, "limit"),
        (400, "GET", "queue?limit=", None, None, "limit"),
        (400, "GET", "message/" + "0" * 17, None, None, "16 hexadecimal"),
        (413, "POST", "bounce", '{"all":true' + " " * 65536 + "}", "application/json", "64 KiB"),
    ):
        body = body.encode("latin-1") if body is not None else None
        got, headers, text = call(relay, method, path, body, kind)
        equal((got, part in json.loads(text)["error"]), (status, True), "%s %s %r: %s" % (method, path, (body or b"")[:60], text[:200]))
        equal((headers["Content-Type"], headers["Cache-Control"]), ("application/json; charset=utf-8", "no-store"))
        equal(status != 405 or method in ("PUT", "DELETE") or headers["Allow"] == {"GET": "POST", "POST": "GET, HEAD"}[method], True, headers["Allow"])
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
def a_stop_while_operations_are_under_way(t):
    relay, _, _ = blocked(t)
    for i in range(4):
        relay.send("a@sender.example", ["r%d-%d@dead.example" % (i, r) for r in range(500)], CONTENT)
    processes = [
        Process(t, "ctl-%d" % i, [binary(), "ctl", "--http", "%s:%d" % (relay.address, relay.http_port)] + what)
        for i, what in enumerate((["queue"], ["suspend", "--all"], ["resume", "--all"], ["retry", "--all"], ["queue", "--sites"]) * 3)
    ]
    until(lambda: any(not process.running() for process in processes), "the first of them to be done")
    relay.stop()
    for process in processes:
        equal((process.wait() in (0, 1), SANITIZER.search(process.log())), (True, None), process.log())
    relay.start()
    ctl(relay, "resume", "--all")
    equal(ask(relay, "bounce", "--all", "--quiet")["bounced"], 2001)
    relay.wait_outcomes(2001)


@test
def damaged_suspensions_keep_the_relay_from_starting(t):
    relay, mx = relay_and_mx(t)
    ctl(relay, "suspend", "d.example", "--for", "1h")
    number = relay.send("a@sender.example", "r@d.example", CONTENT)
    until_states(relay, [number], "suspended")
    relay.stop()
    path = os.path.join(relay.config["spool"]["path"], "suspensions.json")
    with open(path, encoding="utf-8") as file:
        sound = file.read()
    for text in (
        sound[:-8],
        "",
        "{}",
        "[1]",
        "[{}]",
        '[{"all": false}]',
        '[{"message": "1"}]',
        '[{"domain": "d", "site": "s"}]',
        '[{"domain": 5}]',
        '[{"domain": "%s"}]' % ("d" * 256),
        '[{"domain": "d", "until": "tomorrow"}]',
        '[{"domain": "d", "until": -5}]',
        '[{"domain": "d", "since": 1e300}]',
        '[{"domain": "d", "reason": 5}]',
        sound + sound,
    ):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        code, output = run_program([relay.binary, "--config", relay.config_path])
        equal((code, path in output, "ready" in output, len(output.strip().splitlines())), (1, True, False, 1), "%r: %s" % (text, output))
    with open(path, "w", encoding="utf-8") as file:
        file.write(sound)
    relay.start()
    until_states(relay, [number], "suspended")
    equal(mx.connections, 0)
    ctl(relay, "resume", "d.example")
    relay.wait_outcomes(1)


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
    ctl(relay, "suspend", "other.example.", "--reason", "\x1b[5m \u009b \u202e \u7b49")
    for name in ("other\x1b[1m\u009b.example", "*.example", "a@b.example"):
        code, _, errors = run_ctl(relay, "suspend", name)
        equal((code, "\x1b" in errors), (1, False), name)
    for arguments in (["queue"], ["queue", "--sites"], ["queue", "d.example"], ["message", number], ["suspensions"], ["queue", "other.example"]):
        text = ctl(relay, *arguments)
        bad = [c for c in text if (ord(c) < 32 and c != "\n") or 127 <= ord(c) < 160 or c in "\u202e\u2066"]
        equal(bad, [], "%s: %r" % (arguments, text))
        raw = ctl(relay, "--json", *arguments)
        equal((raw.isascii(), "\x1b" in raw, isinstance(json.loads(raw), dict)), (True, False, True))
    contains(ctl(relay, "message", number), "j\u00fcrgen?33m?@d.example", "<\u00fc@sender.example>", "caf\u00e9")
    contains(ctl(relay, "suspensions"), "other.example", "?[5m ? ? \u7b49")
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


@test
def a_signal_does_not_disturb_an_operation(t):
    relay, _ = relay_and_mx(t)
    ctl(relay, "suspend", "--all")
    numbers = send_many(relay, "d.example")
    for _ in range(20):
        relay.process.signal(signal.SIGHUP)
        ask(relay, "queue")
    until_states(relay, numbers, "suspended")
    ctl(relay, "resume", "--all")
    relay.wait_outcomes(MANY)


run_all()
