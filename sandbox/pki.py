"""Certificates and kubeconfigs, made by kubeadm: the way every kubeadm cluster has them."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sandbox import commands, gobuild, settings
from sandbox.settings import Settings
from sandbox.templating import render, write

# Clients that kubeadm's own kubeconfig phase does not know; their rights are RBAC objects in sandbox/manifests.
CLIENTS = {
    "kube-proxy": "system:kube-proxy",
    "coredns": "system:coredns",
    "local-path-provisioner": "system:local-path-provisioner",
    "leaderworkerset": "system:leaderworkerset",
    "metallb": "system:metallb",
    "kwok": "system:kwok",
    "traefik": "system:traefik",
    "keda": "system:keda",
    "prometheus": "system:prometheus",
    "prometheus-adapter": "system:prometheus-adapter",
    "slipway": "slipway",
}

_USES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


def ensure(config: Settings) -> None:
    """Make what is missing; what exists is kept, so a cluster keeps its identity over down and up."""
    kubeadm = gobuild.program(config, gobuild.KUBERNETES, "kubeadm")
    answers = config.kubeconfigs / "kubeadm.yaml"
    text = render(
        "templates/kubeadm.yaml.j2",
        home=config.home,
        pki=config.pki,
        node_ip=settings.NODE_IP,
        node_name=settings.NODE_NAME,
        api_port=settings.API_PORT,
        pod_cidr=settings.POD_CIDR,
        service_cidr=settings.SERVICE_CIDR,
        version=gobuild.KUBERNETES_VERSION,
    )
    if not write(answers, text) and all((config.kubeconfigs / f"{name}.conf").exists() for name in CLIENTS):
        return
    commands.run([kubeadm, "init", "phase", "certs", "all", "--config", answers])
    commands.run(
        [
            kubeadm,
            "init",
            "phase",
            "kubeconfig",
            "all",
            "--config",
            answers,
            "--kubeconfig-dir",
            config.kubeconfigs,
        ]
    )
    for name, user in CLIENTS.items():
        target = config.kubeconfigs / f"{name}.conf"
        if not target.exists():
            made = commands.run([kubeadm, "kubeconfig", "user", "--client-name", user, "--config", answers])
            write(target, made, mode=0o600)


def server_certificate(
    config: Settings, name: str, *, names: Sequence[str] = (), addresses: Sequence[str] = ()
) -> tuple[Path, Path]:
    """A server's certificate by the cluster's authority, and its key; made once, good for as long as the authority.

    A program may show it as a client too, as the two halves of KEDA do to each other. The API server takes it for a
    user of that name, who has no rights.

    Returns:
        The files ``tls.crt`` and ``tls.key``, alone in a folder.
    """
    certificate_file, key_file = (config.pki / name / file for file in ("tls.crt", "tls.key"))
    if certificate_file.exists() and key_file.exists():
        return certificate_file, key_file
    authority = x509.load_pem_x509_certificate((config.pki / "ca.crt").read_bytes())
    authority_key = serialization.load_pem_private_key((config.pki / "ca.key").read_bytes(), password=None)
    key = ec.generate_private_key(ec.SECP256R1())
    subjects = [
        *(x509.DNSName(one) for one in names),
        *(x509.IPAddress(ipaddress.ip_address(one)) for one in addresses),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5))
        .not_valid_after(authority.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        .add_extension(x509.ExtendedKeyUsage(_USES), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())  # type: ignore[arg-type]
    )
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write(key_file, plain.decode(), mode=0o600)
    write(certificate_file, certificate.public_bytes(pem).decode())
    return certificate_file, key_file
