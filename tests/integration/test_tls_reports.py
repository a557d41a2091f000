"""TLS reports (through bench/tlsrpt): TXT records from NSD behind unbound, POSTs to a real HTTPS server; read by Python's email, gzip and json."""
import email
import email.policy
import gzip
import json
import os
import re
import signal
import ssl
import time

import https
from certificates import certificate
from harness import BUILD, Process, equal, run_all, test, until
from nameservers import Resolver

DAY_S = 86400


class Collector(https.Server):
    """Takes POSTs for every host of its certificate; `status` is the answer, by host."""

    def __init__(self, case, hosts):
        self.posts, self.status = [], {}
        authority = certificate(case, "authority", hosts=())
        files = certificate(case, "collector", hosts=hosts, issuer=authority)
        self.authority = authority["cert"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files["cert"], files["key"])
        super().__init__(case, context, CollectorHandler)


class CollectorHandler(https.Handler):
    def do_POST(self):  # noqa: N802
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.host(), self.path, self.headers["Content-Type"], body))
        self.reply(self.server.status.get(self.host(), 201), "text/plain", "")


class World:
    def __init__(self, case, records, hosts=("reports.example",)):
        self.case = case
        self.dns = Resolver(case, {"example": ['_smtp._tls.%s TXT %s' % record for record in records]})
        self.collector = Collector(case, hosts)
        self.file = case.path("tls-reports.json")
        self.out = case.directory("out")
        self.connect_to = ["--connect-to", self.collector.where]

    def start(self, *arguments):
        command = [os.path.join(BUILD, "bench", "tlsrpt"), "--server", self.dns.where, "--ca", self.collector.authority, *self.connect_to, "--file", self.file, "--out", self.out, "--spread", "0", "--save", "50"]
        return Process(self.case, self.case.unique("tlsrpt"), [*command, *arguments])

    def kept(self):
        with open(self.file, encoding="ascii") as file:
            return json.load(file)

    def stop(self, process):
        process.signal(signal.SIGTERM)
        equal(process.wait(), 0, process.log())

    def count(self, *domains):
        """Sessions of yesterday."""
        process = self.start(*domains)
        process.wait_line(r"^counted$")
        self.stop(process)
        kept = self.kept()
        kept["days"][0]["day"] -= 1
        with open(self.file, "w", encoding="ascii") as file:
            json.dump(kept, file)

    def wait_all_done(self, process):
        """Until nothing is left to be reported."""
        until(lambda: [day["domains"] for day in self.kept()["days"]] == [{}], lambda: "%s\n%s" % (self.kept(), process.log()))

    def message(self, number):
        with open(os.path.join(self.out, str(number)), "rb") as file:
            return file.read()


def check_json(report, domain):
    start = report["date-range"]["start-datetime"]
    yesterday = time.strftime("%Y-%m-%d", time.gmtime(time.time() - DAY_S))
    equal(report["date-range"], {"start-datetime": yesterday + "T00:00:00Z", "end-datetime": yesterday + "T23:59:59Z"}, start)
    equal(report["organization-name"], "Example Relays \u00c4")
    equal(report["contact-info"], "tls-reports@example.net")
    none, sts, tlsa = report["policies"]
    equal(none, {"policy": {"policy-type": "no-policy-found", "policy-domain": domain},
                 "summary": {"total-successful-session-count": 3, "total-failure-session-count": 0}})
    equal(sts["policy"], {"policy-type": "sts", "policy-string": ["version: STSv1", "mode: testing", "max_age: 86400", "mx: *.mail.example"], "policy-domain": domain, "mx-host": ["*.mail.example"]})
    equal(sts["summary"], {"total-successful-session-count": 2, "total-failure-session-count": 1})
    equal(sts["failure-details"], [{"result-type": "certificate-expired", "sending-mta-ip": "192.0.2.1", "receiving-mx-hostname": "mx1.mail.example", "receiving-ip": "2001:db8::7",
                                    "failed-session-count": 1, "failure-reason-code": 'expired on "1 Nov"'}])
    equal(tlsa["policy"], {"policy-type": "tlsa", "policy-string": ["3 1 1 0B9F", "2 0 1 AA"], "policy-domain": "mx1.mail.example"})
    equal(tlsa["failure-details"], [{"result-type": "starttls-not-supported", "failed-session-count": 2}])


def check_wire(stored):
    for line in stored.split(b"\r\n"):
        assert b"\n" not in line and b"\r" not in line and len(line) <= 998 and not line.startswith(b"."), line
        assert all(32 <= byte < 127 or byte == 9 for byte in line), line


@test
def a_day_is_reported_by_mail_and_by_post(t):
    world = World(t, [
        ("both", '"v=TLSRPTv1;rua=mailto:tls%2Breports@both.example," "https://reports.example/in?x=1"'),
        ("mail", '"v=TLSRPTv1; rua=mailto:a@mail.example,mailto:b@mail.example"'), ("none", '"v=spf1 -all"'),
        ("two", '"v=TLSRPTv1;rua=mailto:a@two.example"'), ("two", '"v=TLSRPTv1;rua=mailto:b@two.example"'), ("other", '"v=TLSRPTv1;rua=ftp://other.example/"')])
    world.count("both.example", "mail.example", "none.example", "two.example", "other.example", "missing.example")
    process = world.start()
    for to, domain in (("tls+reports@both.example", "both.example"), ("a@mail.example", "mail.example"), ("b@mail.example", "mail.example")):
        process.wait_line(r"^mail \d+ from=tls-reports@example.net to=%s domain=%s$" % (re.escape(to), domain))
    until(lambda: len(world.collector.posts) == 1, process.log)
    world.wait_all_done(process)
    world.stop(process)
    equal(process.log().count("mail "), 3, process.log())
    equal(sorted(os.listdir(world.out)), ["0", "1", "2"])

    number = int(re.search(r"mail (\d+) from=\S+ to=tls\+reports", process.log()).group(1))
    stored = world.message(number)
    check_wire(stored)
    message = email.message_from_bytes(stored, policy=email.policy.default)
    equal((message["From"], message["To"]), ("tls-reports@example.net", "tls+reports@both.example"))
    assert re.fullmatch(r"Report Domain: both\.example Submitter: relay\.example\.net Report-ID: <[0-9a-f]{16}@relay\.example\.net>", message["Subject"]), message["Subject"]
    equal((message["TLS-Report-Domain"], message["TLS-Report-Submitter"], message["TLS-Required"]), ("both.example", "relay.example.net", "No"))
    equal((message.get_content_type(), message.get_param("report-type"), message["MIME-Version"], message["Auto-Submitted"]), ("multipart/report", "tlsrpt", "1.0", "auto-generated"))
    equal([part.defects for part in message.walk()], [[], [], []])
    text, attached = message.iter_parts()
    assert "both.example" in text.get_content(), text.get_content()
    equal(attached.get_content_type(), "application/tlsrpt+gzip")
    begin = int(time.time()) // DAY_S * DAY_S - DAY_S
    equal(attached.get_filename(), "relay.example.net!both.example!%d!%d.json.gz" % (begin, begin + DAY_S - 1))
    report = json.loads(gzip.decompress(attached.get_content()))
    check_json(report, "both.example")
    assert "<%s>" % report["report-id"] in message["Subject"], report["report-id"]

    (host, path, kind, body), = world.collector.posts
    equal((host, path, kind), ("reports.example", "/in?x=1", "application/tlsrpt+gzip"))
    equal(json.loads(gzip.decompress(body)), report)


@test
def who_fails_is_tried_again_and_nobody_is_served_twice(t):
    world = World(t, [("one", '"v=TLSRPTv1;rua=mailto:a@one.example,https://reports.example/,mailto:b@one.example"')])
    world.collector.status["reports.example"] = 500
    world.count("one.example")
    process = world.start("--retry", "300", "--refuse", "1")
    until(lambda: len(world.collector.posts) >= 2, process.log)
    process.wait_line(r"^TLS report about one.example could not be sent: https://reports.example/: the answer is 500; it is tried again$")
    process.wait_line(r"^mail 1 ")
    world.stop(process)
    due = world.kept()["days"][1]["domains"]["one.example"]["report"]
    equal(due["uris"], ["https://reports.example/"])
    equal((process.log().count("to=a@one"), process.log().count("to=b@one")), (1, 1), process.log())
    ids = {json.loads(gzip.decompress(body))["report-id"] for _, _, _, body in world.collector.posts}
    equal(ids, {due["id"] + "@relay.example.net"}, "the same, however often")

    del world.collector.status["reports.example"]
    before = len(world.collector.posts)
    again = world.start("--retry", "300")
    until(lambda: len(world.collector.posts) > before, again.log)
    world.wait_all_done(again)
    world.stop(again)
    equal(len(world.collector.posts), before + 1)
    equal(json.loads(gzip.decompress(world.collector.posts[-1][3]))["report-id"], due["id"] + "@relay.example.net")
    equal(again.log().count("mail "), 0, again.log())


@test
def without_dns_reports_wait(t):
    world = World(t, [("one", '"v=TLSRPTv1;rua=mailto:a@one.example"')])
    world.count("one.example")
    world.dns.process.end()
    process = world.start("--retry", "60000")
    process.wait_line(r"^TLS report about one.example could not be sent: DNS does not say who wants it; it is tried again$", timeout_s=30)
    world.stop(process)
    report = world.kept()["days"][1]["domains"]["one.example"]["report"]
    equal((report["tries"], report["uris"]), (1, None))


@test
def nothing_is_posted_to_where_others_must_not_reach(t):
    world = World(t, [])
    where = world.collector.where
    others = ["https://%s/" % where, "https://[::1]:%s/" % where.split(":")[1], "https://[::ffff:%s]:%s/" % tuple(where.split(":")), "https://10.0.0.1/", "https://169.254.169.254/", "https://[fe80::1]/"]
    world.dns = Resolver(t, {"example": ['_smtp._tls.d%d TXT "v=TLSRPTv1;rua=%s"' % pair for pair in enumerate(others)]})
    world.connect_to = []
    world.count(*["d%d.example" % i for i in range(len(others))])
    process = world.start("--retry", "60000", "--timeout", "5000")
    for i in range(len(others)):
        process.wait_line(r"^TLS report about d%d.example could not be sent: https://\S+: its address is not public; it is tried again$" % i)
    world.stop(process)
    equal(world.collector.posts, [])


@test
def a_wrong_certificate_gets_nothing(t):
    world = World(t, [("one", '"v=TLSRPTv1;rua=https://wrong.example/"')])
    world.count("one.example")
    process = world.start("--retry", "60000")
    process.wait_line(r"^TLS report about one.example could not be sent: https://wrong.example/: .*subject.*; it is tried again$")
    world.stop(process)
    equal(world.collector.posts, [])


run_all()
