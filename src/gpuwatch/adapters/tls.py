"""How the certificates of servers that we ask are checked."""

from __future__ import annotations

import ssl


def checking_context(authorities: str | None = None) -> ssl.SSLContext:
    """Checks who vouches for a server, and its name, by the system's authorities, $SSL_CERT_FILE's, or a file's.

    From Python 3.13 on the default also refuses an authority that does not say what its key may be used for (RFC 5280, 4.2.1.3),
    as `openssl req -x509` makes them: people who vouch for their own server could not make it known.
    """
    context = ssl.create_default_context(cafile=authorities)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
