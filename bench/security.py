"""TLS of a relay under test: its certificate, and what attacks it while good mail is sent."""
import os
import shutil
import subprocess

from harness import Failure


def unavailable():
    """None, or why there can be no TLS here."""
    return None if shutil.which("openssl") else "no openssl(1), which makes the relay's certificate"


def make_certificate(directory, name):
    """(certificate, key) for that host, signed by itself: P-256, as most have."""
    cert, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "30"]
    command += ["-subj", "/CN=" + name, "-addext", "subjectAltName=DNS:" + name, "-keyout", key, "-out", cert]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if result.returncode != 0:
        raise Failure("openssl made no certificate: %s" % result.stderr)
    return cert, key


class Hostile:
    """Clients that attack it. All half-open ones are there once this is made."""

    def __init__(self, world, relay, options, limit_s=60):
        command = [os.path.join(world.build, "bench", "hostile"), "--to", relay.address, "--json", *options]
        self._program = world.programs.start(command, cpus=world.cpus)
        self._program.wait_ready(limit_s)

    def close(self):
        """Its report. It ends well unless it could not attack, or a renegotiation was agreed to."""
        status = self._program.stop()
        report = self._program.report()
        if status != 0:
            raise Failure("the attack did not go as it should: %s" % report)
        return report


def attack_text(report):
    kinds = ["%s %d" % (kind.replace("_", "-"), report[kind]["attacks"]) for kind in report if isinstance(report[kind], dict)]
    return "attacks: %s; %d half-open at once" % (", ".join(kinds), report["half_open_max"])
