"""What the resolver says of DANE (through bench/resolve), against zones that are really signed: NSD serves them, unbound validates before it."""
import os
import re
import subprocess

from harness import BUILD, run_all, test
from nameservers import SignedResolver, Unbound

DIGEST = "%064x" % 0x1122334455667788
TLSA = "TLSA 3 1 1 " + DIGEST
ZONES = {
    "test": ["@ MX 10 mx.good"],
    "good.test": [
        "@ MX 10 mx", "@ MX 20 mx.plain.test.", "mx A 192.0.2.1", "mx AAAA 2001:db8::1", "_25._tcp.mx " + TLSA, "_25._tcp.mx TLSA 2 0 2 " + 2 * DIGEST,
        "without MX 10 other", "other A 192.0.2.2",
        "old MX 10 pkix", "pkix A 192.0.2.3", "_25._tcp.pkix TLSA 1 1 1 " + DIGEST,
        "alone A 192.0.2.4", "_25._tcp.alone " + TLSA,
        "alias CNAME alone",
        "away MX 10 way", "way CNAME mx.plain.test.", "_25._tcp.way " + TLSA,
        "near MX 10 step", "step CNAME mx",
        "hosted MX 10 linked", "linked A 192.0.2.5", "_25._tcp.linked CNAME _dane.mx", "_dane.mx " + TLSA,
        "loose MX 10 loosely", "loosely A 192.0.2.6", "_25._tcp.loosely CNAME _dane.plain.test.",
        "broken MX 10 mx.bogus.test.", "over MX 10 mx.late.test.",
        "large MX 10 whole", "whole A 192.0.2.7", "_25._tcp.whole TLSA 3 0 0 " + 1500 * "ab",
    ],
    "plain.test": ["@ MX 10 mx.good.test.", "mx A 192.0.2.9", "_25._tcp.mx " + TLSA, "_dane " + TLSA],
    "bogus.test": ["mx A 192.0.2.10", "_25._tcp.mx " + TLSA, "sound A 192.0.2.11"],
    "late.test": ["@ MX 10 mx", "mx A 192.0.2.12", "_25._tcp.mx " + TLSA],
}
USE = r'dane=use ttl=\d+ base=%s reason="[^"]*" 3 1 1 0000000000000000/32$'
CASES = [  # domain, host, what the line has to match
    ("good.test", "mx.good.test", r'dane=use ttl=\d+ base=mx.good.test reason="2 usable TLSA records" (3 1 1 0+/32|2 0 2 0+/64) (3 1 1 0+/32|2 0 2 0+/64)$'),
    ("good.test", "mx.plain.test", r'dane=none .*"the host.s addresses are not secure"'),
    ("without.good.test", "other.good.test", r'dane=none ttl=60 .*"no TLSA records"'),
    ("old.good.test", "pkix.good.test", r"dane=unusable .*base=pkix.good.test "),
    ("alone.good.test", "alone.good.test", USE % "alone.good.test"),
    ("alias.good.test", "alone.good.test", USE % "alone.good.test"),
    ("away.good.test", "way.good.test", USE % "way.good.test"),
    ("near.good.test", "step.good.test", r"dane=use .*base=mx.good.test "),
    ("hosted.good.test", "linked.good.test", USE % "linked.good.test"),
    ("loose.good.test", "loosely.good.test", r'dane=none .*"the TLSA records are not secure"'),
    ("plain.test", "mx.good.test", r'dane=none .*"the answer about MX is not secure"'),
    ("broken.good.test", "mx.bogus.test", r'dane=defer ttl=5 .*"name server failure \(SERVFAIL\) for TLSA of mx.bogus.test"'),
    ("large.good.test", "whole.good.test", r"dane=use .* 3 0 0 abababababababab/1500$"),
]


def alter(text, zone):
    """Another digest than was signed."""
    return re.sub(r"(TLSA\s+3 1 1 )0", r"\g<1>f", text) if zone == "bogus.test" else text


def resolve(server, *arguments):
    command = [os.path.join(BUILD, "bench", "resolve"), "--server", server.where, "--timeout", "5000", "--dane"] + list(arguments)
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60).stdout


def check(dns, cases):
    output = resolve(dns, *sorted({domain for domain, _, _ in cases}))
    for domain, host, pattern in cases:
        lines = [line for line in output.splitlines() if line.startswith("%s/%s " % (domain, host))]
        assert len(lines) == 1 and re.search(pattern, lines[0]), "%s/%s: %s\n%s" % (domain, host, lines, output)
    return output


@test
def signed_zones_and_what_follows_from_them(t):
    dns = SignedResolver(t, ZONES, plain={"plain.test"}, after=alter, expired={"late.test"})
    output = check(dns, CASES)
    assert re.search(r"^without.good.test status=ok .* secure site=", output, re.M), output
    assert re.search(r"^good.test status=ok .* mx-secure site=", output, re.M), output
    assert re.search(r"^plain.test status=ok ttl=\d+ site=", output, re.M), output


@test
def with_nsec3_too(t):
    dns = SignedResolver(t, ZONES, plain={"plain.test"}, after=alter, nsec3=True, expired={"late.test"})
    check(dns, CASES)


@test
def expired_signatures_are_no_answer(t):
    dns = SignedResolver(t, ZONES, plain={"plain.test"}, expired={"late.test"})
    output = resolve(dns, "late.test", "over.good.test")
    assert re.search(r"^late.test status=temporary .*SERVFAIL", output, re.M), output
    assert re.search(r"^over.good.test status=temporary .*SERVFAIL", output, re.M), output


@test
def a_resolver_that_does_not_validate_makes_no_dane(t):
    dns = SignedResolver(t, ZONES, plain={"plain.test"})
    blind = Unbound(t, dns.nsd, "test")
    output = check(blind, [("good.test", "mx.good.test", r'dane=none .*"the answer about MX is not secure"')])
    assert " secure" not in output.splitlines()[0], output


@test
def other_ports_have_other_records(t):
    zones = {"test": ["@ MX 10 mx", "mx A 192.0.2.1", "_2525._tcp.mx " + TLSA]}
    dns = SignedResolver(t, zones)
    assert re.search(r"^test/mx.test dane=use ", resolve(dns, "--port", "2525", "test"), re.M)
    assert re.search(r"^test/mx.test dane=none ", resolve(dns, "test"), re.M)


run_all()
