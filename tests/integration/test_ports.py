"""The ports a provider offers (25, 465, 587, 2525), each with the clients people have and each way of AUTH those know; and what TLS is offered there.

As root the ports have their own numbers, on an address of 127.0.0.0/8 that nobody else uses.
"""
import base64
import json
import os
import re
import smtplib
import subprocess

from certificates import certificate
from fakemx import FakeMx
from harness import Skip, equal, free_address, free_port, need_program, run_all, test
from mtas import PEERS
from relay import Ringpost, add_user, route, yaml

NAME, PASSWORD = "ann@example.org", "correct horse"
STRANGER = "127.7.7.7"
PORTS = {25: "starttls", 465: "implicit", 587: "starttls", 2525: "starttls"}
HEAD = "From: a@b.example\r\nTo: c@d.example\r\nSubject: %s\r\n\r\nhello\r\n"


def provider(t):
    """relay.at: number of a port -> the one it has here."""
    address = free_address()
    mx = FakeMx(t, address, free_port(address))
    users = t.path("users")
    add_user(users, NAME, PASSWORD)
    config = {
        "relay_from": ["127.9.0.0/16"],
        "routes": [route("*", (mx.address, mx.port))],
        "tls": {"certificates": [certificate(t, "ec"), certificate(t, "rsa", kind="rsa")]},
        "users": users,
    }
    relay = Ringpost(t, config, release=True, start=False)
    relay.at = {number: number if os.geteuid() == 0 else free_port(relay.address) for number in PORTS}
    listener = relay.config["listeners"][0]
    relay.config["listeners"] = [{**listener, "port": relay.at[number], "tls": tls, "auth": "optional" if number == 25 else "required"} for number, tls in PORTS.items()]
    relay.port = relay.at[25]
    t.write(relay.name + ".yaml", re.sub(r'"certificates": ', "certificates: ", yaml(relay.config)) + "\n")
    return relay.start(), mx


# ---- clients: each sends one message, whose subject says by whom ----


def run(command, subject, **more):
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, **more)
    if done.returncode != 0:
        raise AssertionError("%s: %s %s" % (subject, done.stdout[-1500:], done.stderr[-1500:]))


def by_s_client(relay, number, method, subject):
    """What s_client is told to say, a line after each reply."""
    if method != "PLAIN":
        return False
    starttls = ["-starttls", "smtp"] if PORTS[number] == "starttls" else []
    command = [need_program("openssl"), "s_client", "-quiet", "-crlf", "-bind", STRANGER + ":0", "-connect", "%s:%d" % (relay.address, relay.at[number]), *starttls]
    secret = base64.b64encode(("\0%s\0%s" % (NAME, PASSWORD)).encode()).decode()
    lines = ["EHLO client.example", "AUTH PLAIN " + secret, "MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>", "DATA", HEAD.replace("\r\n", "\n") % subject + ".", "QUIT"]
    wanted = [250, 235, 250, 250, 354, 250, 221]
    if not starttls:
        lines, wanted = [None] + lines, [220] + wanted  # else s_client has had the banner
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1)
    with client:
        for line, code in zip(lines, wanted):
            if line is not None:
                client.stdin.write(line + "\n")
            reply = client.stdout.readline()
            while reply[3:4] == "-":
                reply = client.stdout.readline()
            equal((line and line.split(" ")[0], reply[:3]), (line and line.split(" ")[0], str(code)))
    return True


def by_swaks(relay, number, method, subject):
    if method not in ("PLAIN", "LOGIN"):
        return False
    tls = "-tls" if PORTS[number] == "starttls" else "-tlsc"
    command = [need_program("swaks"), "--server", relay.address, "--port", str(relay.at[number]), tls, "--auth", method, "-au", NAME, "-ap", PASSWORD]
    run(command + ["-f", "a@b.example", "-t", "c@d.example", "--local-interface", STRANGER, "--data", (HEAD % subject).replace("\r\n", "\\n")], subject)
    return True


def by_smtplib(relay, number, method, subject):
    if method not in ("PLAIN", "LOGIN"):
        return False
    kind = smtplib.SMTP if PORTS[number] == "starttls" else smtplib.SMTP_SSL
    with kind(relay.address, relay.at[number], timeout=60, source_address=(STRANGER, 0)) as client:
        if kind is smtplib.SMTP:
            client.starttls()
        client.ehlo("python.example")
        client.user, client.password = NAME, PASSWORD
        client.auth(method, getattr(client, "auth_" + method.lower()))
        client.sendmail("a@b.example", ["c@d.example"], (HEAD % subject).encode())
    return True


NODEMAILER = """
const job = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const transport = require('nodemailer').createTransport({host: job.host, port: job.port, secure: job.implicit, requireTLS: true, tls: {rejectUnauthorized: false},
  localAddress: job.from, name: 'node.example', auth: {user: job.user, pass: job.password}, authMethod: job.method});
transport.sendMail({from: 'a@b.example', to: 'c@d.example', subject: job.subject, text: 'hello'}).catch(error => { console.error(error); process.exit(1); });
"""


def by_nodemailer(relay, number, method, subject):
    if method not in ("PLAIN", "LOGIN"):
        return False
    home = os.path.join(PEERS, "node")
    if not os.path.isdir(os.path.join(home, "node_modules/nodemailer")):
        raise Skip("no nodemailer in %s; tests/lib/get-peers.sh fetches it" % home)
    job = {"host": relay.address, "port": relay.at[number], "implicit": PORTS[number] == "implicit", "from": STRANGER, "user": NAME, "password": PASSWORD}
    run([need_program("node"), "-e", NODEMAILER], subject, input=json.dumps({**job, "method": method, "subject": subject}).encode(), cwd=home)
    return True


def by_msmtp(relay, number, method, subject):
    starttls = "on" if PORTS[number] == "starttls" else "off"
    command = [need_program("msmtp"), "--host", relay.address, "--port", str(relay.at[number]), "--tls=on", "--tls-starttls=" + starttls, "--tls-certcheck=off"]
    command += ["--auth=" + method.lower(), "--user", NAME, "--passwordeval", "echo " + PASSWORD, "-f", "a@b.example", "--source-ip", STRANGER, "c@d.example"]
    run(command, subject, input=(HEAD % subject).encode())
    return True


def by_curl(relay, number, method, subject):
    if method not in ("PLAIN", "LOGIN"):
        return False  # Debian's has no SCRAM
    scheme = "smtp" if PORTS[number] == "starttls" else "smtps"
    command = [need_program("curl"), "-sS", "--url", "%s://%s:%d/curl.example" % (scheme, relay.address, relay.at[number]), "--ssl-reqd", "-k", "--interface", STRANGER]
    command += ["--mail-from", "a@b.example", "--mail-rcpt", "c@d.example", "-T", "-", "-u", NAME + ":" + PASSWORD, "--login-options", "AUTH=" + method]
    run(command, subject, input=(HEAD % subject).encode())
    return True


def on_every_port(t, client):
    relay, mx = provider(t)
    sent = []
    for number in PORTS:
        for method in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
            subject = "%s-%d" % (method.lower(), number)
            if client(relay, number, method, subject):
                sent.append(subject)
    relay.wait_outcomes(len(sent))
    equal(sorted(re.search(rb"Subject: (\S+)", message.content).group(1).decode() for message in mx.messages), sorted(sent))
    receptions = relay.events("Reception")
    equal({(event["tls_protocol_version"], event["meta"]["user"]) for event in receptions} <= {("TLSv1.3", NAME), ("TLSv1.2", NAME)}, True)
    print("# " + ", ".join(sent))


@test
def s_client_on_every_port(t):
    on_every_port(t, by_s_client)


@test
def swaks_on_every_port(t):
    on_every_port(t, by_swaks)


@test
def smtplib_on_every_port(t):
    on_every_port(t, by_smtplib)


@test
def nodemailer_on_every_port(t):
    on_every_port(t, by_nodemailer)


@test
def msmtp_on_every_port(t):
    on_every_port(t, by_msmtp)


@test
def curl_on_every_port(t):
    on_every_port(t, by_curl)


if __name__ == "__main__":
    run_all()
