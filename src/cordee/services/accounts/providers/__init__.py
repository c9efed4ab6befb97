"""OpenID providers outside: asked, and believed as far as what they signed goes."""
