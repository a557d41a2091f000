#!/usr/bin/env python3
"""The bench programs as they are: source against sink over real sockets, their reports and exit statuses; floor. And the arithmetic of run.py."""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("RINGPOST_BUILD", os.path.join(ROOT, "build"))
sys.path.insert(0, os.path.join(ROOT, "bench"))  # before tests/lib, which has a harness of its own
import harness  # noqa: E402
import security  # noqa: E402
import summary  # noqa: E402

failures = 0


def program(name):
    return os.path.join(BUILD, "bench", name)


class Sink:
    def __init__(self, *options):
        self.port = harness.free_port()
        self.process = subprocess.Popen(
            [program("sink"), "--listen", "127.0.1.0/24:%d" % self.port, "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stderr.readline()
        if not line.startswith("ready"):
            raise AssertionError("sink is not ready: %s" % line)

    def stop(self):
        """(exit status, report)"""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        output, _ = self.process.communicate(timeout=30)
        return self.process.returncode, json.loads(output.strip().splitlines()[-1])


def source(port, *options):
    result = subprocess.run([program("source"), "--to", "127.0.1.9:%d" % port, "--json", *options], capture_output=True, text=True, timeout=60)
    return result.returncode, json.loads(result.stdout) if result.stdout else None, result.stderr


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def all_ways_of_sending():
    for way in ("none", "command", "message"):
        for chunking in ([], ["--chunking"]):
            sink = Sink("--expect", "600")
            status, sent, _ = source(
                sink.port, "--messages", "300", "--recipients", "2", "--spread", "--sessions", "10", "--pipelining", way, *chunking
            )
            sink_status, got = sink.wait()
            check(status == 0 and sent["accepted"] == 300 and sent["replies"] == {"250": 300}, "source: %s" % sent)
            check(sink_status == 0 and got["arrived"] == 600 and got["lost"] == 0, "sink: %s" % got)
            check(got["transactions"]["chunked"] == (300 if chunking else 0), "chunked")
            check((got["connections"]["pipelined"] > 0) == (way != "none"), "pipelined")
            check(got["transactions"]["bytes"] == 300 * 4096, "size")


def large_messages():
    sink = Sink()
    status, sent, _ = source(sink.port, "--messages", "6", "--size", "12MiB", "--sessions", "3", "--pipelining", "message")
    sink_status, got = sink.stop()
    check(status == 0 and sink_status == 0 and got["arrived"] == 6 and got["corrupt"] == 0, "%s %s" % (sent, got))


def reconnecting_and_idle():
    sink = Sink()
    status, sent, _ = source(sink.port, "--messages", "200", "--sessions", "5", "--messages-per-session", "4", "--idle", "30")
    sink_status, got = sink.stop()
    check(status == 0 and sink_status == 0 and got["arrived"] == 200, "%s %s" % (sent, got))
    check(sent["sessions"]["idle"] == 30 and sent["sessions"]["broken"] == 0, "idle %s" % sent["sessions"])
    check(got["connections"]["count"] >= 80 and got["connections"]["max"] >= 31, "connections %s" % got["connections"])


def holds_idle_sessions():
    """Only those: ready when all are greeted, and at SIGTERM they say QUIT. A server that refuses some is not ready."""
    for rules, ready in ((), True), (("--rule", "stage=connect reply=421 4.3.2 busy first=1"), False):
        sink = Sink(*rules)
        process = subprocess.Popen(
            [program("source"), "--to", "127.0.1.1:%d" % sink.port, "--json", "--sessions", "0", "--idle", "40", "--retry-after", "60s"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if ready:
            line = process.stderr.readline()
            check(line == "ready: 40 idle sessions\n", "said %s" % line)
        else:
            time.sleep(0.3)  # it must not say so meanwhile
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=20)
        sent, (_, got) = json.loads(output), sink.stop()
        check(ready or "ready" not in errors, "ready without all: %s" % errors)
        if ready:
            check(process.returncode == 0 and sent["end"] == "finished" and sent["accepted"] == 0, "%s" % sent)
            check(sent["sessions"]["idle"] == 40 and sent["sessions"]["broken"] == 0, "%s" % sent["sessions"])
            check(got["connections"]["max"] == 40 and got["arrived"] == 0, "%s" % got["connections"])


def deferred_until_accepted():
    sink = Sink("--rule", "stage=final reply=451 4.7.1 later first=2", "--rule", "stage=connect reply=421 4.3.2 busy rate=0.2")
    status, sent, _ = source(sink.port, "--messages", "100", "--sessions", "10", "--retry-after", "50ms")
    sink_status, got = sink.stop()
    check(status == 0 and sink_status == 0 and got["arrived"] == 100, "%s %s" % (sent, got))
    check(sent["deferred_recipients"] == 200 and sent["again"] == 200, "deferred %s" % sent)


def losses_are_reported():
    sink = Sink("--rule", "stage=rcpt reply=550 5.1.1 no first=1")
    status, sent, _ = source(sink.port, "--messages", "10")
    sink_status, got = sink.stop()
    check(status == 1 and sent["refused_recipients"] == 10 and sink_status == 0 and got["refused"] == 10 and got["lost"] == 0, "%s %s" % (sent, got))
    sink = Sink("--rule", "stage=rcpt rcpt=user-7@* reply=450 4.1.1 no", "--expect", "10", "--idle-exit", "1s")
    status, sent, _ = source(sink.port, "--messages", "10", "--no-retry")
    sink_status, got = sink.wait()
    check(status == 1 and sent["given_up"] == 1, "source %s" % sent)
    check(sink_status == 1 and got["lost"] == 1 and got["lost_first"] == "user-7", "sink %s" % got)


def damage_and_duplicates_are_reported():
    import smtplib

    sink = Sink()
    stamp = "X-Bench: run=%016x seq=3 sent=1 of=10 rcpts=1 body=0000000002\r\n"
    with smtplib.SMTP("127.0.1.1", sink.port) as client:
        for run in (1, 1, 2):
            client.sendmail("a@b.test", ["user-3@d00000.test"], stamp % run + "\r\n" + ("xy\r\n" if run == 2 else "\r\n"))
    sink_status, got = sink.stop()
    check(sink_status == 1 and got["duplicated"] == 1 and got["corrupt"] == 1 and got["lost"] == 18, "%s" % got)


def open_loop_keeps_its_rate():
    sink = Sink()
    status, sent, _ = source(sink.port, "--messages", "300", "--rate", "300", "--sessions", "20")
    sink.stop()
    check(status == 0 and 0.9 < sent["seconds"] < 1.6, "%s" % sent["seconds"])


def latency_counts_from_the_schedule():
    """A relay that stands still for a while: with an open loop every message that was due meanwhile shows it."""
    sink = Sink("--rule", "stage=final delay=500ms first=1 rcpt=user-0@*")
    status, sent, _ = source(sink.port, "--messages", "100", "--rate", "200", "--sessions", "1")
    sink.stop()
    check(status == 0 and sent["injection_ms"]["p50"] > 50, "%s" % sent["injection_ms"])


def latency_of_those_that_come_first_may_be_left_out():
    sink = Sink("--rule", "stage=connect delay=300ms")
    for settle, count in (([], 100), (["--settle", "500ms"], 50)):
        status, sent, _ = source(sink.port, "--messages", "100", "--rate", "100", "--sessions", "3", *settle)
        latency = sent["injection_ms"]
        check(status == 0 and latency["count"] == count and (latency["max"] > 200) == (count == 100), "%s: %s" % (settle, latency))
    sink.stop()


def threads():
    sink = Sink("--threads", "2")
    status, sent, _ = source(sink.port, "--messages", "500", "--threads", "2", "--sessions", "10")
    sink_status, got = sink.stop()
    check(status == 0 and sink_status == 0 and got["arrived"] == 500, "%s %s" % (sent, got))


def tls_of_both_forms():
    """Each connection but the first ones resumes a session, or none does; whatever way the bytes are cut."""
    for form in ("starttls", "implicit"):
        for way, more, resumes in (
            ("none", [], True),
            ("command", ["--chunking"], True),
            ("message", ["--recipients", "3"], True),
            ("message", ["--tls-full", "--threads", "2"], False),
        ):
            sink = Sink("--tls", form)
            options = ["--messages", "120", "--sessions", "5", "--messages-per-session", "3", "--pipelining", way, *more]
            status, sent, errors = source(sink.port, "--tls", form, *options)
            sink_status, got = sink.stop()
            what = "%s %s %s: %s %s %s" % (form, way, more, sent, errors, got)
            check(status == 0 and sink_status == 0 and got["corrupt"] == 0 and got["trouble"]["protocol_errors"] == 0, what)
            check(got["tls"]["messages"] == 120 == got["transactions"]["accepted"] and sent["sessions"]["broken"] == 0, what)
            check(sent["tls"]["version"] == "TLSv1.3" and sent["tls"]["failed"] == 0 == got["tls"]["failed"], what)
            check(sent["tls"]["handshakes"] == got["tls"]["handshakes"] == got["connections"]["count"] >= 40, what)
            check(sent["tls"]["resumed"] == got["tls"]["resumed"], what)
            check(sent["tls"]["handshakes"] - 5 <= sent["tls"]["resumed"] < sent["tls"]["handshakes"] if resumes else sent["tls"]["resumed"] == 0, what)


def tls_of_large_and_slow_ones():
    """Messages of many records, more than a socket takes at once; replies a byte at a time, late ones, sessions that are cut off."""
    sink = Sink("--tls", "starttls")
    status, sent, _ = source(sink.port, "--tls", "starttls", "--messages", "6", "--size", "12MiB", "--sessions", "3", "--pipelining", "message")
    sink_status, got = sink.stop()
    check(status == 0 and sink_status == 0 and got["arrived"] == 6 and got["corrupt"] == 0, "%s %s" % (sent, got))
    sink = Sink(
        *("--tls", "implicit", "--rule", "stage=helo drip=1ms", "--rule", "stage=data delay=20ms"),
        *("--rule", "stage=final cut first=1 rcpt=user-3@*", "--rule", "stage=mail reply=421 4.3.2 busy first=1"),
    )
    status, sent, _ = source(sink.port, "--tls", "implicit", "--messages", "12", "--sessions", "3", "--retry-after", "50ms", "--idle", "2")
    sink_status, got = sink.stop()
    check(status == 0 and sink_status == 0 and got["tls"]["messages"] == 12 and got["trouble"]["cuts"] == 1, "%s %s" % (sent, got))
    check(sent["sessions"]["idle"] == 2 and sent["maybe_duplicated"] == 1, "%s" % sent)


def what_is_no_tls_is_told():
    """A source does not send in the clear what it was to send in TLS; a sink does not take what came in the clear behind STARTTLS for its own."""
    sink = Sink()
    for form, why in (("starttls", "STARTTLS is not offered"), ("implicit", "no TLS with")):
        status, sent, errors = source(sink.port, "--tls", form, "--messages", "10")
        check(status == 1 and sent is None and why in errors, "%s: %s %s" % (form, status, errors))
    _, got = sink.stop()
    check(got["arrived"] == 0, "%s" % got)
    sink = Sink("--tls", "starttls")
    for behind in (b"", b"MAIL FROM:<a@b.example>\r\n"):
        with socket.create_connection(("127.0.1.1", sink.port), 10) as client:
            lines = client.makefile("rb")
            client.sendall(b"EHLO me\r\n")
            said = [lines.readline()] + [line for line in iter(lines.readline, b"250 HELP\r\n")]
            check(b"250-STARTTLS\r\n" in said, "offers %s" % said)
            client.sendall(b"STARTTLS\r\n" + behind)
            check(lines.readline().startswith(b"220 "), "no 220")
            if not behind:
                client.sendall(b"MAIL FROM:<a@b.example>\r\n")
            check(b"250" not in lines.read(), "went on in the clear")
    _, got = sink.stop()
    check(got["tls"]["failed"] == 1 and got["trouble"]["protocol_errors"] == 1 and got["tls"]["handshakes"] == 0, "%s" % got)


def hostile_clients():
    """All kinds at once, and what they did is told; good ones are served meanwhile."""
    for form in ("starttls", "implicit"):
        sink = Sink("--tls", form)
        options = ["--half-open", "200", "--dribble", "5", "--garbage", "10", "--vanish", "5", "--renegotiate", "5", "--every", "1ms", "--hold", "1s"]
        process = subprocess.Popen(
            [program("hostile"), "--to", "127.0.1.1:%d" % sink.port, "--tls", form, "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = process.stderr.readline()
        check(line == "ready: 200 half-open handshakes\n", "said %s" % line)
        status, sent, _ = source(sink.port, "--tls", form, "--messages", "300", "--rate", "150")
        process.send_signal(signal.SIGTERM)
        did = json.loads(process.communicate(timeout=20)[0])
        sink_status, got = sink.stop()
        check(status == 0 and sink_status == 0 and got["arrived"] == 300, "%s %s" % (sent, got))
        check(process.returncode == 0 and did["half_open_max"] == 200 and did["half_open"]["attacks"] > 250, "%s" % did)
        check(did["half_open"]["ended"] == 0 and did["dribble"]["succeeded"] > 0 and did["vanish"]["attacks"] > 10, "%s" % did)
        check(did["garbage"]["ended"] > 0 and did["renegotiate"]["asked"] > 0 == did["renegotiate"]["succeeded"], "%s" % did)
        check(got["tls"]["failed"] >= did["half_open"]["attacks"] + did["garbage"]["ended"], "%s %s" % (did, got["tls"]))


def a_renegotiation_is_noticed():
    """Of a server that agrees to it: else that none does would say nothing."""
    if security.unavailable():
        return security.unavailable()
    with tempfile.TemporaryDirectory() as directory:
        (cert, key), port = security.make_certificate(directory, "localhost"), harness.free_port()
        server = subprocess.Popen(
            ["openssl", "s_server", "-accept", "127.0.0.1:%d" % port, "-cert", cert, "-key", key, "-tls1_2", "-client_renegotiation", "-quiet"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            options = ["--tls", "implicit", "--renegotiate", "1", "--duration", "2s", "--json"]
            result = subprocess.run([program("hostile"), "--to", "127.0.0.1:%d" % port, *options], capture_output=True, text=True, timeout=20)
        finally:
            server.kill()
            server.wait()
    check(result.returncode == 1 and json.loads(result.stdout)["renegotiate"]["succeeded"] > 0, "%s" % result)


def dns_over_udp_and_tcp():
    port = harness.free_port()
    sink = Sink("--dns", "127.0.0.1:%d" % port, "--domains", "5")
    query = bytes.fromhex("abcd01000001000000000000") + b"\6d00003\4test\0" + bytes.fromhex("000f0001")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.create_connection(("127.0.0.1", port)) as tcp:
        udp.settimeout(5)
        udp.sendto(query, ("127.0.0.1", port))
        by_udp = udp.recv(2000)
        tcp.settimeout(5)
        tcp.sendall((len(query).to_bytes(2, "big") + query) * 2)
        by_tcp = b""
        while len(by_tcp) < 2 * (2 + len(by_udp)):
            by_tcp += tcp.recv(2000)
    check(by_udp[:2] == b"\xab\xcd" and by_udp[7] == 1 and b"\3mx1" in by_udp, "udp %s" % by_udp)
    check(by_tcp == (len(by_udp).to_bytes(2, "big") + by_udp) * 2, "tcp %s" % by_tcp)
    _, got = sink.stop()
    check(got["dns_queries"] == 3, "queries %s" % got["dns_queries"])


def connections_count_until_their_end_only():
    """One after the other is one at once, however fast; and a cut is an end, though the sink then waits for the other side to close."""
    sink = Sink("--rule", "stage=mail from=cut@* cut")
    cut = None
    for i in range(300):
        connection = socket.create_connection(("127.0.1.9", sink.port))
        if i % 3 == 0:
            connection.recv(1000)
        elif i % 3 == 1:
            connection.sendall(b"HELO me\r\nMAIL FROM:<cut@me.example>\r\n")
            while connection.recv(1000):
                pass
            cut, connection = connection, cut
        if connection:
            connection.close()
    _, got = sink.stop()
    cut.close()
    check(got["connections"]["max_per_address"] == 1 and got["connections"]["max"] == 1, "at once: %s" % got["connections"])


def report_on_request():
    sink = Sink()
    source(sink.port, "--messages", "20")
    sink.process.send_signal(signal.SIGUSR1)
    first = json.loads(sink.process.stdout.readline())
    check(first["arrived"] == 20, "%s" % first)
    sink.stop()


def exit_statuses():
    check(source(harness.free_port(), "--messages", "1")[0] == 1, "nobody listens")
    for name, options in (
        ("source", ["--nonsense"]),
        ("source", ["--size", "10"]),
        ("source", ["--domain-pattern", "%s"]),
        ("source", ["--to", "nowhere"]),
        ("source", ["--sessions", "0"]),
        ("source", ["--tls-full"]),
        ("source", ["--tls", "1.3"]),
        ("source", ["--sessions", "0", "--idle", "3", "--messages", "4"]),
        ("sink", ["--rule", "cut"]),
        ("sink", ["--listen", "10.0.0.0/8:25"]),
        ("floor", ["--trips", "3"]),
        ("hostile", []),
        ("hostile", ["--half-open", "70000"]),
    ):
        result = subprocess.run([program(name), *options], capture_output=True, text=True, timeout=20)
        check(result.returncode == 2 and result.stderr.startswith(name + ": "), "%s %s: %d %s" % (name, options, result.returncode, result.stderr))
    for name in ("source", "sink", "floor", "hostile"):
        result = subprocess.run([program(name), "--help"], capture_output=True, text=True, timeout=20)
        check(result.returncode == 0 and "Exit status" in result.stdout and max(map(len, result.stdout.splitlines())) <= 132, name + " --help")


def warm_up_is_not_timed():
    sink = Sink("--warm-up", "--expect", "150", "--linger", "100ms")
    check(source(sink.port, "--messages", "100")[0] == 0, "warm-up")
    sink.process.send_signal(signal.SIGUSR2)
    check(source(sink.port, "--messages", "50")[0] == 0, "measured")
    status, got = sink.wait()
    check(status == 0 and got["timed"] == 50 and got["end_to_end_ms"]["count"] == 50 and got["arrived"] == 150, "%s" % got)


def interrupted_source_reports():
    sink = Sink("--rule", "stage=final delay=50ms")
    process = subprocess.Popen(
        [program("source"), "--to", "127.0.1.1:%d" % sink.port, "--json", "--messages", "1M", "--progress"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stderr.readline()  # the first second's progress: it is running
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    sent = json.loads(output)
    check(process.returncode == 1 and sent["end"] == "stopped" and sent["accepted"] > 0, "%s" % sent)
    sink.stop()


def the_duration_is_kept_whatever_the_relay_says():
    """All deferred: nothing ever comes to its end; and silent: no reply comes."""
    for rule in ("stage=mail reply=452 4.3.1 no room", "stage=final reply=451 4.3.0 later", "stage=final delay=60s"):
        sink = Sink("--rule", rule)
        started = time.monotonic()
        status, sent, _ = source(sink.port, "--duration", "1s", "--retry-after", "100ms", "--sessions", "20", "--threads", "2", "--rate", "1000")
        took = time.monotonic() - started
        check(0.9 < took < 9, "%s: took %.1f s" % (rule, took))
        check(status == 1 and sent["end"] == "stopped" and sent["accepted"] == 0, "%s: %s" % (rule, sent))
        check("delay" in rule or sent["given_up"] > 0, "%s: %s" % (rule, sent))
        sink.stop()


def floor_measures():
    with tempfile.TemporaryDirectory(dir=BUILD) as directory:
        for trips in ("1", "2"):
            for durability in ("sync", "none"):
                result = subprocess.run(
                    [
                        program("floor"),
                        "--json",
                        "--trips",
                        trips,
                        "--durability",
                        durability,
                        "--duration",
                        "200ms",
                        "--warmup",
                        "50ms",
                        "--spool",
                        directory,
                        "--sessions",
                        "16",
                        "--connections",
                        "8",
                        "--peer-cpu",
                        str(os.cpu_count() - 1),
                    ],
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
                if "no O_DIRECT" in result.stderr:
                    return "no O_DIRECT on the file system of %s" % BUILD
                check(result.returncode == 0, result.stderr)
                figures = json.loads(result.stdout)
                check(figures["messages"] > 100 and 1 < figures["cpu_us_per_message"] < 1000, "%s" % figures)
                check(durability == "none" or figures["messages_per_commit"] >= 1, "%s" % figures)
        check(os.listdir(directory) == [], "left behind: %s" % os.listdir(directory))


def figures(rate, cpu_us, idle_session_bytes=None):
    return {"rate": rate, "cpu_us": cpu_us, "idle_session_bytes": idle_session_bytes}


def what_is_lost_is_among_the_figures():
    """The sink waits for one that does not come: the run ends all the same, long before its limit, and says so."""
    programs = harness.Programs()
    with tempfile.TemporaryDirectory() as directory:
        try:
            rule = ["--rule", "stage=rcpt rcpt=user-7@* reply=450 4.1.1 no", "--expect", "10", "--no-address-check"]
            world = harness.World(programs, BUILD, directory, harness.Progress(), rule)
            relay = harness.Direct(programs, directory, world.dns, world.mx_port)
            relay.start()
            started = time.monotonic()
            found = harness.run_once(world, relay, ["--messages", "10", "--no-retry"], 60, quiet_s=1)
        finally:
            programs.stop_all()
    check(not found["well"] and found["sink"]["lost"] == 1 and found["messages"] == 9, "%s" % found)
    check(time.monotonic() - started < 20, "took %.0f s" % (time.monotonic() - started))


def pairs_are_made_round_by_round():
    """The second round was twice as slow for both: the medians of each alone would say 1.5, the rounds' own ratios say 1.1."""
    one = [figures(1000, 10), figures(500, 20), figures(1000, 10)]
    two = [figures(900, 11), figures(550, 22), figures(500, 15)]
    (pair,) = summary.pairs({"one": one, "two": two}, {"two": "one", "three": "one", "two of another": "none"})
    check((pair.name, pair.base) == ("two", "one"), "%s" % (pair,))
    check([round(value, 3) for value in pair.cpu] == [1.1, 1.1, 1.5], "CPU %s" % (pair.cpu,))
    check([round(value, 3) for value in pair.rate] == [0.9, 0.5, 1.1], "rate %s" % (pair.rate,))
    check(summary.pairs({"two": two}, {"two": "one"}) == [], "without the other")
    try:
        summary.ratio(one, two[:2], "cpu_us")
    except ValueError:
        pass
    else:
        raise AssertionError("rounds without their counterpart")


def latencies_and_differences_are_told():
    def rounds(cpu_us, p50):
        return [dict(figures(1000, cpu_us), source={"injection_ms": {"p50": p50, "p99": 3 * p50}})]

    one, two = rounds(10, 1), rounds(35, 1.1)
    text = summary.latency_text(one, two, 1.05)
    check(text == "injection p50 x0.91 (0.91 to 0.91), required: at most 1.05, met, p99 x0.91 (0.91 to 0.91)", text)
    text = summary.latency_text(two, one, 1.05)
    check("p50 x1.10 (1.10 to 1.10), required: at most 1.05, NOT MET" in text, text)
    kept = summary.latency_kept(one, two, 1.05), summary.latency_kept(two, one, 1.05), summary.latency_kept(two, one, 1.11)
    check(kept == (True, False, True), "%s" % (kept,))
    text = summary.difference_text(two, one, "handshake")
    check(text == "25.0 us (25.0 to 25.0) of CPU for each handshake", text)


def pairs_are_told():
    pair = summary.Pair("two", "one", summary.Ratio(0.9, 0.5, 1.1), summary.Ratio(1.15, 1.1, 1.5))
    text = summary.pair_text(pair, 1.15, "not meaningful")
    wanted = "CPU/message x1.15 (1.10 to 1.50), required: at most 1.15, met; messages/s x0.90 (0.50 to 1.10), not meaningful"
    check(text == wanted, text)
    check("NOT MET" in summary.pair_text(pair, 1.14), "one that is not met")
    check("x0.90 (0.50 to 1.10), required: at least 0.90, met" in summary.pair_text(pair, rate_least=0.9), summary.pair_text(pair, rate_least=0.9))
    check("at least 0.95, NOT MET" in summary.pair_text(pair, rate_least=0.95), summary.pair_text(pair, rate_least=0.95))
    check(summary.pair_kept(pair) and summary.pair_kept(pair, 1.15, 0.9), "within what is required")
    check(not summary.pair_kept(pair, 1.14, 0.9), "too much CPU")
    check(not summary.pair_kept(pair, 1.15, 0.91), "too slow")
    none = summary.Pair("two", "one", None, None)
    check(summary.pair_kept(none, 1, 1), "nothing to tell by")
    check("required" not in summary.pair_text(pair), "nothing required")
    (nothing,) = summary.pairs({"one": [figures(0, 0)], "two": [figures(1, 0)]}, {"two": "one"})
    check(summary.pair_text(nothing, 1.15) == "CPU/message -; messages/s -", "nothing to divide by: %s" % summary.pair_text(nothing, 1.15))
    check(summary.rate_caution(2, 1, 4) is None, "processors for all")
    check(summary.rate_caution(2, 1, 2) == "not meaningful: source and sink share 2 processors with 2 shards", "shards of the processors")
    check(summary.rate_caution(1, 1, 2).startswith("the load tools' work is in it"), "the same shards on either side")


def idle_sessions_are_counted():
    check(summary.idle_possible(10000, 20000, 100, 1000) == 10000, "enough")
    check(summary.idle_possible(10000, 4096, 100, 1000) == 4096 - 1100 - summary.DESCRIPTORS_BESIDES, "as many as there is room for")
    check(summary.idle_possible(10000, 1024, 100, 1000) == 0, "none")
    check(summary.bytes_each(8000, 18000, 10000) == 1024, "a KiB each")
    text = summary.idle_text([figures(1, 1, 1024), figures(1, 1, 2048), figures(1, 1, 1536)])
    check(text == "1.50 (1.00 to 2.00) KiB of resident memory per idle session", text)
    check(summary.idle_text([figures(1, 1), figures(1, 1)]) == "", "none was measured")


def main():
    global failures
    only = sys.argv[1:]
    for name in ("source", "sink", "floor", "hostile"):
        if not os.access(program(name), os.X_OK):
            print("skipped bench: %s is not built" % program(name))
            return 0
    for test in (
        all_ways_of_sending,
        large_messages,
        reconnecting_and_idle,
        holds_idle_sessions,
        deferred_until_accepted,
        losses_are_reported,
        damage_and_duplicates_are_reported,
        open_loop_keeps_its_rate,
        latency_counts_from_the_schedule,
        latency_of_those_that_come_first_may_be_left_out,
        threads,
        tls_of_both_forms,
        tls_of_large_and_slow_ones,
        what_is_no_tls_is_told,
        hostile_clients,
        a_renegotiation_is_noticed,
        dns_over_udp_and_tcp,
        connections_count_until_their_end_only,
        report_on_request,
        warm_up_is_not_timed,
        exit_statuses,
        interrupted_source_reports,
        the_duration_is_kept_whatever_the_relay_says,
        floor_measures,
        what_is_lost_is_among_the_figures,
        pairs_are_made_round_by_round,
        pairs_are_told,
        latencies_and_differences_are_told,
        idle_sessions_are_counted,
    ):
        if only and test.__name__ not in only:
            continue
        try:
            skipped = test()
            print("skipped %s: %s" % (test.__name__, skipped) if skipped else "ok %s" % test.__name__, flush=True)
        except (AssertionError, ValueError, OSError, KeyError, subprocess.SubprocessError, harness.Failure) as error:
            failures += 1
            print("not ok %s: %s" % (test.__name__, error), flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
