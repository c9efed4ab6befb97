"""How a broker behind TLS is believed, whichever it is: by the authorities of this system, or by those that the configuration names.

The name in the URL must be one of the certificate's. Files are read for every connection, so that renewed ones count from the next one on.
"""

from __future__ import annotations

import ssl

from cordee.config.sections.services import EventsTls

KEY = "services.events.tls"


class TlsError(Exception):
    """A file cannot be used; the message names it."""


def context(tls: EventsTls) -> ssl.SSLContext:
    """Raises TlsError."""
    try:
        made = ssl.create_default_context(cafile=tls.ca or None)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"{KEY}.ca {tls.ca} cannot be used: {_reason(error)}") from error
    if tls.certificate:
        try:
            made.load_cert_chain(tls.certificate, tls.key, password=_no_passphrase)
        except (OSError, ssl.SSLError, ValueError) as error:
            said = f"{KEY}.certificate {tls.certificate} with {KEY}.key {tls.key}"
            raise TlsError(f"{said} cannot be used: {_reason(error)}") from error
    return made


def _no_passphrase() -> str:
    """Asked for by a key that has one; without it OpenSSL would ask the terminal."""
    raise ValueError("the key has a passphrase")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
