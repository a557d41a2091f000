"""What `ringpost ctl` shows of the queue, and retry and bounce, with two shards."""
import socket
import time

from ctl import CONTENT, MANY, PATIENT, ask, blocked, contains, ctl, dead_site, domain_row, refused, run_ctl, send_many, states, until_states, with_sanitizers
from fakemx import FakeMx, Silence
from harness import equal, free_address, run_all, test, until
from relay import Ringpost, relay_and_mx, route, yaml

with_sanitizers()

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
    refused(relay, 2, "16 hexadecimal digits", "message", "xyz")
    refused(relay, 2, "16 hexadecimal digits", "message", "0" * 17)
    refused(relay, 2, "up to 16 hexadecimal digits", "retry", "--message", "no id")


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
    contains(ctl(relay, "bounce", "Dead.Example", "--reason", "the caf\u00e9 is gone"), "bounced: %d\n" % (2 + MANY))
    relay.wait_outcomes(2 + MANY)
    sender_mx.wait_recipients(2 + MANY)
    relay.wait_outcomes(2 * (2 + MANY))
    bounces = relay.events("AdminBounce")
    equal({(event["response"]["content"], event["queue"]) for event in bounces}, {("the caf\u00e9 is gone", "dead.example")})
    equal(len({(event["id"], event["recipient"]) for event in bounces}), 2 + MANY)
    report = next(one for one in sender_mx.messages if b"one@dead.example" in one.content)
    equal((report.sender, report.recipients, b"the caf?? is gone" in report.content), ("", ["a@sender.example"], True))
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


# ---- one message of very many ----


@test
def a_message_for_many_domains(t):
    """All its recipients are explained, and called back for a bounce; the rest of what is ready in these domains is not touched."""
    where, count = dead_site(), 40
    relay = Ringpost(t, {"routes": [route("*", where)], **PATIENT})
    relay.send("a@sender.example", "first@x.example", CONTENT)
    relay.wait_event("TransientFailure")
    numbers = [relay.send("a@sender.example", ["r%d@d%d.example" % (r, r) for r in range(count)], CONTENT) for _ in range(3)]
    until(lambda: ask(relay, "queue")["total"]["ready"] == 3 * count, "all to be ready")
    for number in numbers:
        for recipient in ask(relay, "message", number)["recipients"]:
            contains(recipient["why"], "waits for a connection to %s:%d" % where, "left alone for another")
    equal(ask(relay, "bounce", "--message", numbers[1], "--quiet"), {"bounced": count, "in_delivery": 0, "unloaded": 0})
    relay.wait_outcomes(count)
    equal({event["id"] for event in relay.events("AdminBounce")}, {numbers[1]})
    equal((ask(relay, "queue")["total"]["ready"], relay.metrics()["ringpost_held_recipients"]), (2 * count, 0))
    mx = FakeMx(t, *where)
    equal(ask(relay, "retry", "--message", numbers[0])["in_delivery"], count)
    relay.wait_outcomes(3 * count)
    equal(sorted(mx.recipients), sorted(["r%d@d%d.example" % (r, r) for r in range(count)] * 2))


@test
def a_message_for_thousands(t):
    """Recipients, all ready in one site: what is not looked for is said; each has one end."""
    where, count = dead_site(), 3000
    relay = Ringpost(t, {"routes": [route("*", where)], "limits": {"recipients": count}, **PATIENT})
    relay.send("a@sender.example", "first@x.example", CONTENT)
    relay.wait_event("TransientFailure")
    number = relay.send("a@sender.example", ["r%d@d.example" % r for r in range(count)], CONTENT)
    until(lambda: ask(relay, "queue")["total"]["ready"] == count, "all to be ready")
    whys = [recipient["why"] for recipient in ask(relay, "message", number)["recipients"]]
    equal((len(whys), {why.startswith("waits for a connection to") for why in whys[:1000]}), (count, {True}))
    equal(set(whys[1000:]), {"not looked for: only the first 1000 that are ready are"})
    ctl(relay, "suspend", "d.example")
    until(lambda: relay.metrics()["ringpost_held_recipients"] == count, "all to be home, and kept")
    equal(ask(relay, "retry", "--message", number), {"retried": 0, "in_delivery": 0, "unloaded": 0})
    ctl(relay, "resume", "d.example")
    equal(ask(relay, "bounce", "--message", number, "--quiet")["bounced"], count)
    relay.wait_outcomes(count)
    equal(len({event["recipient"] for event in relay.events("AdminBounce")}), count)


# ---- what found no room in memory ----


def with_much_on_disk(t, count):
    """A relay with less memory than its mail needs, all of it waiting for an hour; with its ids, oldest first."""
    where = dead_site()
    relay = Ringpost(t, {"shards": 1, "limits": {"memory": "64MiB"}, "routes": [route("*", where)], **PATIENT})
    with relay.client() as client:
        client.hello()
        for i in range(count):
            envelope = "MAIL FROM:<%s@b.example> ENVID=%s\r\nRCPT TO:<r%d@%s.example> ORCPT=rfc822;%s@b.example\r\nDATA\r\n"
            client.send((envelope % ("s" * 60, "e" * 90, i, "de"[i % 2], "o" * 450)).encode())
            for code in (250, 250, 354):
                client.expect(code)
            client.send(CONTENT + b".\r\n")
            client.expect(250)
        client.quit()
    until(lambda: len(relay.events("TransientFailure")) == count, "all to be put off", timeout_s=60)
    relay.stop()
    relay.config["limits"]["memory"] = "4MiB"
    relay.config_path = t.write("less.yaml", yaml(relay.config) + "\n")
    relay.start()
    return relay, [event["id"] for event in relay.events("Reception")]


@test
def a_bounce_goes_on_with_what_is_loaded(t):
    """What is meant and still on disk ends as it is loaded; what is not stays, and what comes later is not meant."""
    count = 4000
    relay, numbers = with_much_on_disk(t, count)
    unloaded = ask(relay, "queue")["unloaded"]
    equal(100 < unloaded < count, True, unloaded)
    refused(relay, 1, "still waits on disk", "message", numbers[-1])
    refused(relay, 1, "still waits on disk", "retry", "--message", numbers[-1])
    refused(relay, 1, "no such message in the queue", "message", "123")
    contains(ctl(relay, "retry", "x.example"), "were not looked at")
    domain = "de"[(count - 1) % 2]
    answer = ask(relay, "bounce", "--site", "mx.example", "--quiet")  # of which site it is, is not known
    equal((answer["unloaded"], answer["as_loaded"]), (unloaded, False), answer)
    contains(ctl(relay, "bounce", "--site", "mx.example", "--quiet"), "were not looked at: say it again")
    contains(ctl(relay, "bounce", "--message", numbers[-4], "--quiet", "--reason", "this one"), "bounced: 0; ", "are given up as they are loaded")
    answer = ask(relay, "bounce", "--message", numbers[-2], "--quiet", "--reason", "this one")
    equal((answer["bounced"], answer["unloaded"], answer["as_loaded"]), (0, unloaded, True))
    answer = ask(relay, "bounce", "%s.example" % domain, "--quiet", "--reason", "gone")
    equal((0 < answer["bounced"] < count // 2, answer["unloaded"] > 0, answer["as_loaded"]), (True, True, True), answer)
    later = relay.send("a@sender.example", "later@%s.example" % domain, CONTENT)
    relay.wait_outcomes(count // 2, timeout_s=60)
    until(lambda: ask(relay, "queue")["unloaded"] == 0, "all to be loaded", timeout_s=60)
    relay.wait_outcomes(count // 2 + 2)
    bounces = relay.events("AdminBounce")
    equal(sum(event["response"]["content"] == "gone" for event in bounces), count // 2)
    equal({event["queue"] for event in bounces if event["response"]["content"] == "gone"}, {"%s.example" % domain})
    equal({event["id"] for event in bounces if event["response"]["content"] == "this one"}, {numbers[-2], numbers[-4]})
    equal(ask(relay, "message", later)["recipients"][0]["state"] in ("ready", "deferred"), True)
    equal(ask(relay, "bounce", "--all", "--quiet"), {"bounced": count // 2 - 1, "in_delivery": 0, "unloaded": 0})
    relay.wait_outcomes(count + 1)


run_all()
