"""Certificates for tests, made by openssl in a folder: authorities, and what they sign. Keys are NAME.key, certificates NAME.pem."""
import os
import shutil
import subprocess

LOCAL = "DNS:localhost,IP:127.0.0.1"
KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def here():
    """Whether there is an openssl."""
    return shutil.which("openssl") is not None


def openssl(folder, *arguments):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


def authority(folder, name):
    openssl(folder, "req", "-x509", *KEY, "-keyout", name + ".key", "-out", name + ".pem", "-days", "30", "-subj", "/CN=" + name)


def certificate(folder, name, by, subject=None, days=30, names=LOCAL):
    """For `subject` (the same name), by an authority of the same folder; days of -1: it has expired."""
    openssl(folder, "req", *KEY, "-keyout", name + ".key", "-out", name + ".csr", "-subj", "/CN=" + (subject or name))
    with open(os.path.join(folder, name + ".ext"), "w") as file:
        file.write("subjectAltName=%s\n" % names)
    openssl(folder, "x509", "-req", "-in", name + ".csr", "-CA", by + ".pem", "-CAkey", by + ".key", "-CAcreateserial", "-days", str(days),
            "-extfile", name + ".ext", "-out", name + ".pem")


def usual(folder):
    """authority.pem with server, renewed (another for the server) and client; other.pem, which knows none of them, with stranger."""
    for name in ("authority", "other"):
        authority(folder, name)
    for name, by, subject in (("server", "authority", "first"), ("renewed", "authority", "second"), ("client", "authority", "client"),
                              ("stranger", "other", "stranger")):
        certificate(folder, name, by, subject)
