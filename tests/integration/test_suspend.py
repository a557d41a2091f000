"""`ringpost ctl suspend` and resume, with two shards: what is suspended waits, also over a restart, and then goes, each once."""
import json
import os
import signal
import time

from ctl import CONTENT, MANY, PATIENT, ask, blocked, contains, ctl, dead_site, domain_row, refused, send_many, states, until_states
from fakemx import FakeMx
from harness import Process, equal, free_port, run_all, run_program, test, until
from relay import SANITIZER, Ringpost, binary, relay_and_mx, route, yaml

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
        equal(set(ask(relay, "retry", "--all")), {"retried", "in_delivery", "unloaded"})  # does not get through
        for target in (words, ["--all"], ["D.example."] if "--site" not in what else words):
            contains(ctl(relay, "retry", *target), "retried: ", "\nwhat is suspended does not move before it is resumed")
        equal("suspended" in ctl(relay, "retry", "other.example"), "--all" in what)
        until_states(relay, numbers, "suspended")
        contains(ctl(relay, "resume", *words), "resumed: 1")
        relay.wait_outcomes(MANY)
        equal(sorted(mx.recipients), sorted("r%d@D.example" % i for i in range(MANY)))
        equal((relay.metrics()["ringpost_held_recipients"], relay.tally().get("TransientFailure")), (0, None))
        contains(ctl(relay, "suspensions"), "nothing is suspended")
        equal("suspended" in ctl(relay, "retry", "--all"), False)
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
    answer = ask(relay, "suspend", "d.example", "--for", "6s", "--reason", "")
    equal((answer["domain"], answer["reason"], 5 < answer["until"] - answer["since"] < 7), ("d.example", "", True))
    contains(ctl(relay, "suspensions"), "d.example", "for another")
    equal(ctl(relay, "suspend", "one.example"), "suspended: one.example, until resumed\n")
    ctl(relay, "resume", "one.example")
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


@test
def another_age_counts_for_what_is_suspended(t):
    """A reload: what would have been suspended for days ends when it is as old as the new configuration says."""
    relay, mx = relay_and_mx(t)
    ctl(relay, "suspend", "d.example")
    numbers = send_many(relay, "d.example")
    young = relay.send("a@sender.example", "young@other.example", CONTENT)
    mx.wait_recipients(1)
    until_states(relay, numbers, "suspended")
    ends = time.time() + 3
    until(lambda: time.time() > ends, "them to be 3 s old")
    relay.config["queue"]["max_age"] = "2s"
    relay.case.write(os.path.basename(relay.config_path), yaml(relay.config) + "\n")
    contains(ctl(relay, "reload"), "reloaded")
    relay.wait_outcomes(MANY + 1)
    equal((relay.tally()["Expiration"], len(relay.finals(number=young)), relay.metrics()["ringpost_held_recipients"]), (MANY, 1, 0))


# ---- the file ----


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
    for text, part in (
        (sound[:-8], ""),
        ("", ""),
        ("{}", "is no list"),
        ("[1]", "entry 1: exactly one of"),
        ("[{}]", "entry 1: exactly one of"),
        ('[{"all": true}, {"all": false}]', 'entry 2: "all" has to be true'),
        ('[{"message": "1"}]', '"message" is no key of a suspension'),
        ('[{"domain": "d", "site": "s"}]', "entry 1: exactly one of"),
        ('[{"domain": 5}]', '"domain" has to be a string'),
        ('[{"domain": "%s"}]' % ("d" * 256), '"domain" has to be'),
        ('[{"domain": "d", "until": "tomorrow"}]', '"until" has to be a time'),
        ('[{"domain": "d", "until": -5}]', '"until" has to be a time'),
        ('[{"domain": "d", "since": 1e300}]', '"since" has to be a time'),
        ('[{"domain": "d", "reason": 5}]', '"reason" has to be a string'),
        ('[{"domain": "d", "untill": 5}]', 'entry 1: "untill" is no key of a suspension'),
        ('[{"domain": "d", "\\u001b[m": 5}]', 'entry 1: "\\u001B[m" is no key of a suspension'),
        ('[{"domain": "d", "domain": "e"}]', "duplicate"),
        (sound + sound, ""),
    ):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        code, output = run_program([relay.binary, "--config", relay.config_path])
        equal((code, path in output, "ready" in output, len(output.strip().splitlines())), (1, True, False, 1), "%r: %s" % (text, output))
        contains(output, part)
    with open(path, "w", encoding="utf-8") as file:
        file.write(sound)
    relay.start()
    until_states(relay, [number], "suspended")
    equal(mx.connections, 0)
    ctl(relay, "resume", "d.example")
    relay.wait_outcomes(1)


# ---- other things meanwhile ----


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


@test
def a_route_leads_around_a_suspended_site(t):
    """A dead host is suspended, and a new route takes its mail elsewhere; other mail for that host stays."""
    relay, mx = relay_and_mx(t)
    other = FakeMx(t, mx.address, free_port(mx.address))
    ctl(relay, "suspend", "--site", "%s:%d" % (mx.address, mx.port))
    numbers = send_many(relay, "moved.example")
    kept = send_many(relay, "kept.example")
    until_states(relay, numbers + kept, "suspended")
    relay.config["routes"].insert(0, route("moved.example", (other.address, other.port)))
    relay.case.write(os.path.basename(relay.config_path), yaml(relay.config) + "\n")
    ctl(relay, "reload")
    relay.wait_outcomes(len(numbers))
    equal((len(other.recipients), len(mx.recipients)), (len(numbers), 0))
    until_states(relay, kept, "suspended")
    ctl(relay, "resume", "--all")
    relay.wait_outcomes(len(numbers) + len(kept))
    equal(len(mx.recipients), len(kept))


run_all()
