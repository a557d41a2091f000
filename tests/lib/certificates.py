"""Certificates for tests, by openssl(1)."""
import subprocess


def openssl(*arguments, **options):
    done = subprocess.run(["openssl", *arguments], capture_output=True, timeout=60, check=False, **options)
    if done.returncode != 0:
        raise AssertionError("openssl %s: %s" % (arguments[0], done.stderr.decode()[-500:]))
    return done.stdout


def certificate(t, name, hosts=("relay.ringpost.example",), kind="ec", issuer=None, days=30):
    """Files of a certificate for these hosts, by this issuer's or its own key."""
    key, cert = t.path(name + ".key"), t.path(name + ".pem")
    how = ["-newkey", "rsa:2048"] if kind == "rsa" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    names = ",".join("DNS:" + host for host in hosts)
    command = ["req", "-x509", "-nodes", *how, "-keyout", key, "-out", cert, "-days", str(days), "-subj", "/CN=" + name]
    command += ["-addext", "subjectAltName=" + names] if hosts else ["-addext", "basicConstraints=critical,CA:true"]
    if issuer:
        command += ["-CA", issuer["cert"], "-CAkey", issuer["key"]]
        if hosts:
            command += ["-addext", "basicConstraints=critical,CA:false"]
    try:
        openssl(*command)
    except AssertionError:
        if not issuer:
            raise
        request = t.path(name + ".csr")  # an openssl without req -CA
        openssl("req", "-new", "-nodes", *how, "-keyout", key, "-out", request, "-subj", "/CN=" + name)
        extensions = t.write(name + ".ext", "subjectAltName=%s\nbasicConstraints=critical,CA:false\n" % names)
        openssl("x509", "-req", "-in", request, "-CA", issuer["cert"], "-CAkey", issuer["key"], "-CAcreateserial", "-days", str(days), "-extfile", extensions, "-out", cert)
    return {"cert": cert, "key": key}
