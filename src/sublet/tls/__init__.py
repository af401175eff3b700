"""TLS of Sublet's own listeners: the certificate, and a small authority to sign one."""
