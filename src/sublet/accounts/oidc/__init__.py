"""Sign-in with OpenID Connect providers: who they say somebody is, and which memberships follow from it."""
