"""MTA-STS policies (through bench/sts): TXT records from NSD behind unbound, policy files from a real HTTPS server with certificates of a test authority."""
import json
import os
import ssl
import subprocess
import threading
import time

from harness import BUILD, Process, equal, need_program, run_all, test, until
from nameservers import Nsd, Resolver
from policies import Server, policy

GOOD = ["enforce", "testing", "none", "moved", "large", "endless", "slow", "html", "missing", "bad", "short", "change", "kept", "again", "two", "silent"]


class Authority:
    """A CA of its own in a directory."""

    def __init__(self, case, name):
        self.openssl = need_program("openssl")
        self.dir = case.directory(name)
        self.file = os.path.join(self.dir, "ca.pem")
        self._run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=" + name, "-keyout", "ca.key", "-out", "ca.pem")

    def _run(self, *arguments):
        subprocess.run([self.openssl, *arguments], cwd=self.dir, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)

    def context(self, file, names, days="30"):
        """An SSL context of a server with a certificate for these names."""
        with open(os.path.join(self.dir, file + ".ext"), "w", encoding="ascii") as extensions:
            extensions.write("subjectAltName=" + ",".join("DNS:" + name for name in names) + "\n")
        self._run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=server", "-keyout", file + ".key", "-out", file + ".csr")
        self._run("x509", "-req", "-in", file + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", days, "-extfile", file + ".ext", "-out", file + ".pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(self.dir, file + ".pem"), os.path.join(self.dir, file + ".key"))
        return context


def endless(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "text/plain")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b"x: " + b"y" * 1000 + b"\n")


def slow(handler):
    handler.send_response(200)
    handler.send_header("Content-Type", "text/plain")
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b"x: y\n")
        handler.wfile.flush()
        time.sleep(0.1)


class World:
    """Everything is announced but `silent`; `two` twice. `foreign` has a certificate of another authority, `expired` an old one, `wrong` one for another name."""

    def __init__(self, case):
        self.case = case
        domains = GOOD + ["foreign", "expired", "wrong"]
        zone = ["_mta-sts.%s 1 TXT \"v=STSv1; id=1;\"" % name for name in domains if name != "silent"] + ["_mta-sts.two TXT \"v=STSv1; id=2;\"", "_mta-sts.silent TXT other"]
        self.dns = Resolver(case, {"example": zone})
        self.ca = Authority(case, "authority")
        names = ["mta-sts.%s.example" % name for name in GOOD]
        context = self.ca.context("good", names)
        others = {
            "mta-sts.foreign.example": Authority(case, "stranger").context("foreign", ["mta-sts.foreign.example"]),
            "mta-sts.expired.example": self.ca.context("expired", ["mta-sts.expired.example"], days="-1"),
        }

        def choose(connection, name, _):
            connection.context = others.get(name, context)

        context.sni_callback = choose
        self.server = Server(case, context)
        self.server.answers = {name + ".example": policy(name + ".example") for name in domains}

    def command(self, *arguments):
        return [os.path.join(BUILD, "bench", "sts"), "--server", self.dns.where, "--ca", self.ca.file, "--connect-to", self.server.where, *arguments]

    def once(self, *arguments):
        """Domain -> its last line, and all that was said."""
        done = subprocess.run(self.command("--once", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60, check=True)
        return {line.split(" ")[0]: line.split(" ", 1)[1] for line in done.stdout.splitlines()}, done.stderr

    def start(self, *arguments):
        return Process(self.case, self.case.unique("sts"), self.command(*arguments))


def known(domain, mode="enforce", max_age=86400):
    return "state=known mode=%s max_age=%d mx=mx1.%s,*.%s," % (mode, max_age, domain, domain)


@test
def policies_are_fetched_and_everything_else_is_refused(t):
    world = World(t)
    answers = world.server.answers
    answers["testing.example"] = policy("testing.example", "testing")
    answers["none.example"] = policy("none.example", "none")
    answers["moved.example"] = lambda handler: handler.reply(302, "text/plain", "", Location="https://mta-sts.enforce.example/.well-known/mta-sts.txt")
    answers["large.example"] = (200, "text/plain", policy("large.example")[2] + "x: y\n" * 14000)
    answers["endless.example"] = endless
    answers["slow.example"] = slow
    answers["html.example"] = (200, "text/html", policy("html.example")[2])
    answers["missing.example"] = (404, "text/plain", policy("missing.example")[2])
    answers["bad.example"] = (200, "text/plain", "version: STSv1\nmode: enforce\nmax_age: 86400\n")
    domains = ["%s.example" % name for name in ["enforce", "testing", "none", "moved", "large", "endless", "slow", "html", "missing", "bad", "two", "silent", "foreign", "expired", "wrong"]]
    lines, said = world.once("--timeout", "2000", *domains)
    equal(lines.pop("enforce.example"), known("enforce.example"))
    equal(lines.pop("testing.example"), known("testing.example", "testing"))
    troubles = {name: "webpki-invalid" for name in ("foreign", "expired", "wrong")}
    troubles.update({name: "policy-fetch-error" for name in ("moved", "large", "endless", "slow", "html", "missing")}, bad="policy-invalid")
    expected = {name + ".example": "state=none trouble=sts-" + troubles[name] if name in troubles else "state=none" for name in ("none", "two", "silent", *troubles)}
    equal(lines, expected, "all others have none")
    for name, why in [
        ("moved", "302, a redirect"), ("large", "longer than 64 KiB"), ("endless", "longer than 64 KiB"), ("slow", "longer than 2000 ms"), ("html", "no text/plain"),
        ("missing", "404"), ("bad", "there is no mx"), ("foreign", "certificate"), ("expired", "expired"), ("wrong", "subject"),
    ]:
        line = [line for line in said.splitlines() if " %s.example " % name in line]
        assert len(line) == 1 and why in line[0], (name, said)
    equal(len(said.splitlines()), 10, said)
    equal({name: world.server.asked.get(name + ".example", 0) for name in ["enforce", "moved", "two", "silent", "foreign", "wrong"]},
          {"enforce": 1, "moved": 1, "two": 0, "silent": 0, "foreign": 0, "wrong": 0})
    equal(world.server.elsewhere, 0)


@test
def mail_goes_on_while_a_policy_is_fetched(t):
    world = World(t)
    let_go = threading.Event()

    def held(handler):
        let_go.wait(20)
        handler.reply(*policy("enforce.example"))

    world.server.answers["enforce.example"] = held
    sts = world.start("enforce.example")
    sts.wait_line(r"^enforce.example state=fetching$")
    let_go.set()
    sts.wait_line(r"^enforce.example state=known mode=enforce")
    equal(world.server.asked, {"enforce.example": 1})


@test
def a_policy_is_refreshed_and_kept_while_that_fails(t):
    world = World(t)
    world.server.answers["change.example"] = policy("change.example", "enforce", 6)
    world.server.answers["kept.example"] = policy("kept.example", "enforce", 6)
    sts = world.start("--retry", "1000", "change.example", "kept.example")
    sts.wait_line(r"^change.example state=known mode=enforce")
    sts.wait_line(r"^kept.example state=known mode=enforce")
    held_since = time.monotonic()
    world.server.answers["change.example"] = policy("change.example", "testing", 3600)
    world.server.answers["kept.example"] = (500, "text/plain", "")
    sts.wait_line(r"^change.example state=known mode=testing")  # after half of max_age, with the same id
    sts.wait_line(r"policy of kept.example could not be fetched: the answer is 500; the one that is there holds on")
    sts.wait_line(r"^kept.example state=known trouble=sts-policy-fetch-error mode=enforce")
    sts.wait_line(r"^kept.example state=none trouble=sts-policy-fetch-error$")
    assert time.monotonic() - held_since > 4, sts.log()
    world.server.answers["kept.example"] = policy("kept.example")
    until(lambda: sts.log().rstrip().endswith(known("kept.example")), sts.log)


@test
def another_id_is_another_policy(t):
    world = World(t)
    sts = world.start("--retry", "1000", "again.example")
    sts.wait_line(r"^again.example state=known mode=enforce")
    world.server.answers["again.example"] = policy("again.example", "none")
    old = world.dns.nsd
    old.stop()
    Nsd(t, {"example": ['_mta-sts.again 1 TXT "v=STSv1; " "id=2;"']}, address=old.address, port=old.port)
    sts.wait_line(r"^again.example state=none$")
    equal(world.server.asked, {"again.example": 2}, "once for each id")
    equal(sts.log().count("state=known"), 1)


@test
def policies_survive_a_restart_without_dns_and_https(t):
    world = World(t)
    file = t.path("mta-sts.json")
    lines, _ = world.once("--file", file, "enforce.example")
    equal(lines["enforce.example"], known("enforce.example"))
    with open(file, encoding="ascii") as kept:
        equal([entry["domain"] for entry in json.load(kept)["policies"]], ["enforce.example"])
    world.dns.nsd.stop()
    world.dns.process.end()
    world.server.answers["enforce.example"] = (404, "text/plain", "")
    lines, said = world.once("--file", file, "enforce.example", "testing.example")
    equal(lines, {"enforce.example": known("enforce.example"), "testing.example": "state=none"})
    equal(said, "")


@test
def a_damaged_file_is_passed_over(t):
    world = World(t)
    for text in ["", "{", "[]", '{"version": 2, "policies": []}', '{"version": 1, "policies": {}}', "\0" * 100]:
        file = t.write("mta-sts.json", text)
        lines, said = world.once("--file", file, "enforce.example")
        equal(lines["enforce.example"], known("enforce.example"))
        equal(said, file + " is passed over: it is damaged; MTA-STS policies are fetched anew\n")


run_all()
