"""Instances of Postfix and OpenSMTPD in a directory of their own, never the one of the machine: what has to be there, the files written, how it is
started. For mtas.py, where they receive, and for bench/peers.py, where they are relays to be measured; needs nothing else of either.
"""
import grp
import os
import pwd

POSTFIX = "/usr/sbin/postfix"
POSTFIX_DAEMONS = "/usr/lib/postfix/sbin"
OPENSMTPD_QUEUE = "/var/spool/smtpd"  # built in, as are its users and the directory it locks itself into
OPENSMTPD_EMPTY = "/var/lib/opensmtpd/empty"
HINT = "tests/lib/get-peers.sh fetches it"


class Missing(Exception):
    """Something that is needed is not on this machine."""


def need_root(what):
    if os.geteuid() != 0:
        raise Missing("%s wants to be started by root" % what)


def need_program(path):
    if not os.access(path, os.X_OK):
        raise Missing("no %s here; %s" % (path, HINT))
    return path


def need_user(name):
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise Missing("no user %s here; tests/lib/get-peers.sh adds it" % name) from None


def _write(path, text):
    with open(path, "w") as file:
        file.write(text)


def _directory(path, mode=0o755, owner=None):
    os.makedirs(path, exist_ok=True)
    os.chmod(path, mode)
    if owner is not None:
        os.chown(path, owner.pw_uid, owner.pw_gid)
    return path


def need_postfix():
    need_root("Postfix")
    need_program(POSTFIX)
    need_user("postfix")
    try:
        grp.getgrnam("postdrop")
    except KeyError:
        raise Missing("no group postdrop here") from None


class PostfixHome:
    """A directory with configuration, queue and data of one instance; `settings` of main.cf add to the ones here, or replace them. `processes`: how
    many of a service, where it is not default_process_limit."""

    def __init__(self, home, address, port, settings, processes=None):
        need_postfix()
        self.config = _directory(os.path.join(home, "etc"))
        self.queue = _directory(os.path.join(home, "queue"))
        self.log_path = os.path.join(home, "maillog")
        parameters = {
            "compatibility_level": "3.6",
            "queue_directory": self.queue,
            "data_directory": _directory(os.path.join(home, "data"), 0o755, need_user("postfix")),
            "daemon_directory": POSTFIX_DAEMONS,
            "command_directory": "/usr/sbin",
            "meta_directory": "/etc/postfix",
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "myhostname": "postfix.example",
            "mydestination": "",
            "inet_interfaces": "loopback-only",
            "inet_protocols": "ipv4",
            "maillog_file": self.log_path,
            "maillog_file_prefixes": home,
            "mynetworks": "127.0.0.0/8",
            "smtpd_relay_restrictions": "permit_mynetworks, reject",
            "alias_maps": "",
            "local_recipient_maps": "",
            "message_size_limit": "104857600",
            "mailbox_size_limit": "0",
            "default_privs": "nobody",
            "disable_dns_lookups": "yes",
            "smtpd_peername_lookup": "no",
            "local_header_rewrite_clients": "",
        }
        parameters.update(settings)
        _write(os.path.join(self.config, "main.cf"), "".join("%s = %s\n" % item for item in parameters.items()))
        _write(os.path.join(self.config, "master.cf"), self._services(address, port, processes or {}))
        self.command = [POSTFIX, "-c", self.config, "start-fg"]

    @staticmethod
    def _services(address, port, processes):
        rows = [
            "%s:%d inet n - n - - smtpd" % (address, port),
            "tlsmgr unix - - n 1000? 1 tlsmgr",
            "pickup unix n - n 60 1 pickup",
            "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 300 1 qmgr",
            "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce",
            "verify unix - - n - 1 verify",
            "flush unix n - n 1000? 0 flush",
            "proxymap unix - - n - - proxymap",
            "smtp unix - - n - - smtp",
            "relay unix - - n - - smtp",
            "error unix - - n - - error",
            "retry unix - - n - - error",
            "discard unix - - n - - discard",
            "local unix - n n - - local",
            "virtual unix - n n - 4 virtual",
            "anvil unix - - n - 1 anvil",
            "scache unix - - n - 1 scache",
            "postlog unix-dgram n - n - 1 postlogd",
        ]
        result = []
        for row in rows:
            words = row.split()
            words[6] = str(processes.get(words[0], words[6]))
            result.append(" ".join(words))
        return "\n".join(result) + "\n"

    def master_pid(self):
        """Of the running instance, which leads a process group of its own: None before it is up."""
        try:
            with open(os.path.join(self.queue, "pid/master.pid")) as file:
                return int(file.read())
        except (OSError, ValueError):
            return None


def need_opensmtpd(peers):
    """Its program, unpacked below the directory `peers`."""
    need_root("OpenSMTPD")
    need_user("opensmtpd")
    need_user("opensmtpq")
    return need_program(os.path.join(peers, "opensmtpd/usr/sbin/smtpd"))


def opensmtpd_directories(queue=OPENSMTPD_QUEUE):
    _directory(queue, 0o711)
    _directory(OPENSMTPD_EMPTY)
